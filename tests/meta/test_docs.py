"""What the documentation says is true: generated pages are fresh, links lead somewhere, commands exist."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from certctl.cli import root
from certctl.cli.commands.inspect import explanation
from certctl.cli.framework import GLOBAL_OPTIONS
from certctl.config import Settings
from certctl.errors import CATALOGUE, ExitCode
from certctl.stories.result import Step
from docs.generate import REFERENCE, pages, stale
from docs.schemas import DATA, WITH_RESULTS
from tests.meta.source import PACKAGE, ROOT, Module, modules

HAND_WRITTEN = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*HAND_WRITTEN, PACKAGE / "explain.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE = [*PAGES, *sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "systemd").glob("*"))]

# Commands the documentation may name because it says that they are not there yet.
NOT_YET = {"import", "fleet"}

# Second words of sentences in the code that begin with our name and are nothing to type.
SENTENCES = {"and", "cannot", "explains", "gave", "has", "is", "shows"}

HOUSE = modules()

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(certctl [^`]+)`")
_SOURCE = re.compile(r"(?<![\w/.{}*-])(?:[\w-]+/)+[\w.-]+\.(?:py|j2|lua|sql)\b")
_CLASS = re.compile(r"``((?!certbot\.)[a-z_.]+)\.([A-Z]\w*)``")
_MACHINE = re.compile(r"/wor[k]/|/hom[e]/(?!\w+/\.config)|site-packages|localhost:\d{5}")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def leaves(
    group: click.Group = root, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its path."""
    context = click.Context(group)
    for child in group.list_commands(context):
        command = group.get_command(context, child)
        assert command is not None, child
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, child))
        else:
            yield (*path, child), command


def test_the_generated_pages_are_what_the_code_says() -> None:
    assert [name(path) for path in stale()] == [], "run: python docs/generate.py"


def test_every_error_is_explained_and_nothing_else_is() -> None:
    text = (PACKAGE / "explain.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(CATALOGUE)


@pytest.mark.parametrize("slug", CATALOGUE)
def test_an_explanation_is_short_and_answers_the_usual_questions(slug: str) -> None:
    lines = [line for line in explanation(slug).splitlines() if line.strip()]
    assert 4 <= len(lines) <= 12
    assert max(map(len, lines)) <= 140
    for question in ("- Mend: ", "- Who acts: ", "- Not the problem: ", "- Cost: "):
        assert any(line.startswith(question) for line in lines), f"{slug} does not say {question}"


def test_every_command_and_option_is_documented() -> None:
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^#+ `(certctl[^`]*)`\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL))
    for path, command in leaves():
        section = sections[f"certctl {' '.join(path)}"]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter not in GLOBAL_OPTIONS:
                assert all(option in section for option in parameter.opts), (path, parameter.opts)
                assert parameter.help, f"{path}: {parameter.opts} has no help"


def test_every_exit_code_slug_and_configuration_key_is_documented() -> None:
    codes = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")
    assert all(f"\n| {int(code)} | `{code.name}` | " in codes for code in ExitCode)
    errors = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    assert all(f"\n## {slug}\n" in errors for slug in CATALOGUE)
    configuration = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        for key, facts in model.model_fields.items():
            assert facts.description, f"[{section}] {key} has no description"
            assert f"`CERTCTL_{section.upper()}__{key.upper()}`" in configuration


def test_the_output_of_every_command_has_a_schema() -> None:
    assert {"-".join(path) for path, _ in leaves()} == WITH_RESULTS | set(DATA)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(found), f"{target}: no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PROSE, ids=name)
def test_paths_named_in_the_house_exist(page: Path) -> None:
    for path in re.findall(r"\bdocs/[\w/.-]+\.(?:md|py|json)\b", page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists() or "NNNN" in path, path
    for number in re.findall(r"\bdocs/decisions/(\d{4})\b", page.read_text(encoding="utf-8")):
        assert list((ROOT / "docs/decisions").glob(f"{number}-*.md")), number


def not_there(text: str, beside: Path) -> list[str]:
    """Return the source files and classes that a text names and the house has not.

    A path counts from the repository, from certctl/ or from where the text stands. A class is written with
    its module, as in ``parties.Dns``, and of the module's name the end is enough.
    """
    places = (ROOT, PACKAGE, beside)
    lost = [path for path in _SOURCE.findall(text) if not any((place / path).exists() for place in places)]
    for named, thing in _CLASS.findall(text):
        known = [each for each in HOUSE if f".{each.name}".endswith("." + named.removeprefix("certctl."))]
        if not any(re.search(rf"^(?:class )?{thing}\b", each.text, re.MULTILINE) for each in known):
            lost.append(f"{named}.{thing}")
    return lost


@pytest.mark.parametrize("page", [page for page in PROSE if page.parent.name != "decisions"], ids=name)
def test_source_files_and_classes_named_in_pages_and_docstrings_exist(page: Path) -> None:
    assert not_there(page.read_text(encoding="utf-8"), page.parent) == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name)
def test_source_files_and_classes_named_in_docstrings_of_tests_exist(path: Path) -> None:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    assert not_there("\n".join(said), path.parent) == []


def test_a_file_or_class_that_has_moved_away_is_noticed() -> None:
    assert not_there("see `cli/wiring.py`, as tests/meta/test_gone.py holds", ROOT) == [
        "cli/wiring.py",
        "tests/meta/test_gone.py",
    ]
    assert not_there("Fits ``world.CertificateAuthority``.", PACKAGE) == ["world.CertificateAuthority"]
    assert not not_there("Fits ``parties.Dns`` (`dns/verify.py`, templates/base.conf.j2).", PACKAGE / "nginx")
    assert not not_there("``certbot.plugins.common.Plugin`` and /etc/x/y.py", ROOT)


@pytest.mark.parametrize("page", PROSE, ids=name)
def test_nothing_names_the_machine_it_was_written_on(page: Path) -> None:
    assert _MACHINE.findall(page.read_text(encoding="utf-8")) == []


def commands_in(page: Path) -> Iterator[str]:
    """Every ``certctl …`` a page tells people to type: in console blocks, and in backticks."""
    text = page.read_text(encoding="utf-8")
    for language, body in _BLOCK.findall(text):
        if language in {"console", "sh", "bash"}:
            for line in body.splitlines():
                typed = line.removeprefix("$ ").removeprefix("# ").removeprefix("sudo ")
                if typed.startswith("certctl ") and (language != "console" or line[:2] in {"$ ", "# "}):
                    yield typed.partition("  #")[0]
    yield from _INLINE.findall(_BLOCK.sub("", text).replace("\n", " "))


def unknown(typed: str) -> str | None:
    """Say what in a command line does not exist, or None."""
    words = shlex.split(typed.partition(" > ")[0].partition(" < ")[0].partition(" | ")[0], comments=True)[1:]
    command: click.Command = root
    while isinstance(command, click.Group):
        while words and words[0].startswith("-") and _takes(command, words[0]):
            words = words[1 if _is_flag(command, words[0]) else 2 :]
        if not words:
            return None
        child = command.get_command(click.Context(command), words[0])
        if child is None:
            stands_for_any = words[0].isupper() or (command is root and words[0] in NOT_YET)
            return None if stands_for_any else f"no command {words[0]!r} in {typed!r}"
        command, words = child, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    bad = [word for word in options if word not in known and not re.fullmatch(r"-v+", word)]
    return f"no option {bad[0]!r} in {typed!r}" if bad else None


def _takes(command: click.Command, word: str) -> bool:
    return word == "--help" or re.fullmatch("-v+", word) is not None or any(word in p.opts for p in command.params)


def _is_flag(command: click.Command, word: str) -> bool:
    option = next((p for p in command.params if word in p.opts), None)
    return not isinstance(option, click.Option) or option.is_flag or option.count


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_that_people_are_told_to_type_exist(page: Path) -> None:
    assert [wrong for typed in commands_in(page) if (wrong := unknown(typed))] == []


def commands_said(source: Module) -> Iterator[str]:
    """Every text of the code that is a command to type; what is filled in at run time stands as X."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if re.match(r"certctl [a-z]", text) and "\n" not in text:
            yield text


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_commands_that_an_error_tells_people_to_type_exist(source: Module) -> None:
    for text in commands_said(source):
        word = text.split()[1]
        if word not in SENTENCES:
            assert unknown(text) is None
            assert word not in NOT_YET, f"{text!r} is not there yet"


def test_the_floor_plan_shows_every_unit() -> None:
    plan = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    units = {source.unit for source in HOUSE} - {"", "__main__"}
    assert [unit for unit in units if f" {unit}/ " not in plan and f" {unit}.py " not in plan] == []


def test_the_readme_begins_with_a_transcript_that_the_code_could_have_printed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first, second = (body for _, body in _BLOCK.findall(text)[:2])
    steps = [str(step) for step in Step if step not in {Step.PROBE, Step.ORDER, Step.REVOKE, Step.ADOPT}]
    assert re.findall(r"^  \S (\w+) ", first, re.MULTILINE) == steps
    assert re.search(r"^Ready in .* renews itself around \d{4}-\d\d-\d\d\.$", first, re.MULTILINE)
    (slug,) = re.findall(r"^error\[([a-z-]+)\]: ", second, re.MULTILINE)
    assert f"(exit {int(CATALOGUE[slug].family.exit_code)})" in second
    assert re.findall(r"^  (seen|should be|who acts|cost|next) ", second, re.MULTILINE) == [
        "seen", "should be", "who acts", "cost", "next",
    ]  # fmt: skip
    assert text.index("```console") < text.index("\n## ")
    assert len(list(commands_in(ROOT / "README.md"))) >= 5


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert unknown("certctl isue status.example.com")
    assert unknown("certctl issue --dryrun status.example.com")
    assert unknown("certctl config shew")
    assert not unknown("certctl --json -q issue --jobs 4 - < customers.txt")
    assert not unknown("certctl -vv --root /x config show")


def test_a_stale_page_is_noticed() -> None:
    page, text = next(iter(pages().items()))
    assert page.read_text(encoding="utf-8") == text
    assert page.read_text(encoding="utf-8") != text + "x"
