"""requirements.lock: who installs from it gets what was tried, on each Python, from wherever pip fetches."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.meta.source import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)]
NAMED = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
ONE_FILE = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Locked:
    """One requirement of the file, with the words that follow it on its continued line."""

    requirement: Requirement
    options: list[str]

    @property
    def version(self) -> str:
        """The one version that is pinned."""
        return str(self.requirement.specifier).removeprefix("==")


def read(text: str) -> Iterator[Locked]:
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in bare.replace("\\\n", " ").splitlines():
        requirement, *options = re.split(r"\s+(?=--)", line.strip())
        yield Locked(Requirement(requirement), options)


def on(python: str, locked: list[Locked]) -> dict[str, Locked]:
    """What pip takes from the file on Linux with this Python."""
    return {canonicalize_name(one.requirement.name): one for one in locked if holds(one.requirement, python)}


def holds(requirement: Requirement, python: str) -> bool:
    here = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(here)


def unmet(wanted: list[str], locked: dict[str, Locked], python: str) -> list[str]:
    """The requirements that nothing locked fulfils."""
    return [
        f"{requirement} (on {python})"
        for requirement in map(Requirement, wanted)
        if holds(requirement, python)
        and not (
            (one := locked.get(canonicalize_name(requirement.name))) and requirement.specifier.contains(one.version)
        )
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_fulfils_what_the_project_and_everything_locked_ask_for(python: str) -> None:
    locked = on(python, list(read(LOCK)))
    assert unmet(NAMED, locked, python) == []
    asked_for_by_those = {name: metadata.requires(name) or [] for name in locked}
    assert {
        name: gaps for name, asked in asked_for_by_those.items() if (gaps := unmet(asked, locked, python))
    } == {}


def test_every_requirement_is_one_version_with_hashes_of_all_its_files() -> None:
    for one in read(LOCK):
        assert re.fullmatch(r"==[^,*]+", str(one.requirement.specifier)), one
        assert one.options, f"{one.requirement} has no hash"
        assert all(ONE_FILE.fullmatch(option) for option in one.options), one


def test_a_compiled_package_has_files_for_more_than_the_machine_that_made_the_lock() -> None:
    hashes = {one.requirement.name: len(one.options) for one in read(LOCK)}
    assert all(hashes[name] > 20 for name in ("cffi", "cryptography", "markupsafe", "pydantic-core"))


def test_the_lock_names_no_place_to_fetch_from() -> None:
    assert not re.search(r"://|@|^\s*-|\s-(?!-hash=)-?[a-z]", uncommented(LOCK), re.MULTILINE)


def uncommented(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", "--hash=")))


def test_the_tests_run_on_what_is_locked() -> None:
    installed = {one.requirement.name: metadata.version(one.requirement.name) for one in read(LOCK)}
    assert installed == {one.requirement.name: one.version for one in read(LOCK)}


def test_the_rules_notice() -> None:
    locked = on("3.11", list(read("click==8.1.0 \\\n    --hash=sha256:00\n")))
    assert unmet(["click>=8.2", "rich"], locked, "3.11") == ["click>=8.2 (on 3.11)", "rich (on 3.11)"]
    assert unmet(["click>=8", 'tomli; python_version < "3.11"'], locked, "3.11") == []
