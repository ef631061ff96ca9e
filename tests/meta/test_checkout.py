"""./check and ./demo from a checkout that is root's alone: parts of both run as other users, who must read it."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.meta.source import ROOT

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="whoever is not root runs all parts as one user")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

_RUN = """\
#!/bin/sh
set -eu
cd "$(dirname "$0")"
. .ci/place.sh
copies={copies}
work_where_all_can_read "$@"
pwd
echo "$@"
"""


@dataclass
class Checkout:
    """A small one, and the place where a copy of it would be."""

    home: Path
    copies: Path

    @property
    def path(self) -> Path:
        return self.home / "certctl"

    def run(self, *arguments: str) -> tuple[Path, str]:
        """Run it; return where it worked and with what."""
        argv = [str(self.path / "run"), *arguments]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        *_, place, told = ran.stdout.splitlines()
        return Path(place), told


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    """A checkout below a directory that others may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        here = Checkout(place / "home", place / "copies")
        (here.path / ".ci").mkdir(parents=True)
        shutil.copy(ROOT / ".ci/place.sh", here.path / ".ci")
        (here.path / "pyproject.toml").touch()
        (here.path / "run").write_text(_RUN.format(copies=here.copies))
        (here.path / "run").chmod(0o755)
        yield here


def read_by_nobody(file: Path) -> str:
    return subprocess.run(
        [*NOBODY, "cat", str(file)], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_a_checkout_that_all_may_read_is_worked_on_where_it_is(checkout: Checkout) -> None:
    assert checkout.run("--fast", "a b") == (checkout.path, "--fast a b")
    assert not checkout.copies.exists()


@AS_ROOT
@pytest.mark.parametrize("closed", ["home", "home/certctl", "home/certctl/run"])
def test_one_that_is_roots_alone_is_worked_on_as_a_copy_that_all_may_read(checkout: Checkout, closed: str) -> None:
    (checkout.home.parent / closed).chmod(0o700)
    (checkout.path / "page").write_text("first")
    (checkout.path / "page").chmod(0o600)
    copy, told = checkout.run("--fast", "a b")
    assert (copy.parent, told) == (checkout.copies, "--fast a b")
    assert read_by_nobody(copy / "page") == "first"


@AS_ROOT
def test_the_copy_follows_the_checkout_and_keeps_what_was_installed_there(checkout: Checkout) -> None:
    checkout.home.chmod(0o700)
    (checkout.path / "gone").touch()
    copy, _ = checkout.run()
    for kept in (".venv", ".cache"):
        (copy / kept).mkdir()
        (checkout.path / kept).mkdir()
        (checkout.path / kept / "not-taken").touch()
    (checkout.path / "page").write_text("second")
    (checkout.path / "gone").unlink()
    assert checkout.run()[0] == copy
    assert read_by_nobody(copy / "page") == "second"
    assert sorted(path.name for path in copy.iterdir()) == [
        ".cache", ".ci", ".venv", "page", "pyproject.toml", "run",
    ]  # fmt: skip
    assert [path for kept in (".venv", ".cache") for path in (copy / kept).iterdir()] == []


@pytest.mark.parametrize("script", ["check", "demo"])
def test_both_scripts_go_there_before_they_install_anything(script: str) -> None:
    text = (ROOT / script).read_text(encoding="utf-8")
    assert re.search(r'^work_where_all_can_read "\$@"$', text, re.MULTILINE)
    assert text.index("\nwork_where_all_can_read") < re.search(r"^(prepare |main$)", text, re.MULTILINE).start()  # type: ignore[union-attr]
