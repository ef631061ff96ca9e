"""Who may import whom: the floor plan of docs/explanation/architecture.md, held by walking the AST."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import pytest

from tests.meta.source import ROOT, Module, calls, imports, module, modules, read

# What a unit may import of the house, besides itself. "io.clock" admits one module of io.
OURS: dict[str, set[str]] = {
    "": set(),
    "dns_records": set(),
    "slugs": set(),
    "errors": {"slugs", "dns_records"},
    "domain": {"errors", "slugs"},
    "formats": set(),
    "values": {"dns_records", "domain", "formats"},
    "certificates": {"domain", "values"},
    "txt_records": set(),
    "due": {"values"},
    "budget": set(),
    "moments": set(),
    "config_types": {"formats"},
    "config": {"errors", "formats", "slugs", "config_types"},
    "io": {"errors", "slugs", "domain"},
    "ports": {"domain", "values", "txt_records", "due", "budget", "slugs", "io.clock"},
    "stories": {
        "budget", "dns_records", "domain", "due", "errors", "io.clock", "io.interrupt", "moments", "ports", "slugs",
        "txt_records", "values",
    },
    "approval": {"domain", "errors", "formats", "io", "moments", "slugs", "values"},
    "dns": {"dns_records", "domain", "values", "txt_records", "errors", "slugs", "io"},
    "ca": {
        "certificates", "domain", "errors", "formats", "io", "ports.manual_dns", "slugs", "txt_records", "values",
    },
    "nginx": {"certificates", "domain", "values", "errors", "formats", "slugs", "io"},
    "store": {"domain", "values", "errors", "slugs", "io", "budget", "due", "moments"},
    "serve": {"domain", "errors", "formats", "io", "ports", "slugs", "stories", "txt_records", "values"},
    "sandbox": {"domain", "errors", "slugs", "io"},
    "timer": {"errors", "formats", "slugs", "io"},
    "notify": {"formats", "io", "values", "stories.result"},
    "app": {
        "", "approval", "budget", "ca", "config", "dns", "dns_records", "domain", "due", "errors", "formats", "io",
        "moments", "nginx", "notify", "ports", "serve", "slugs", "store", "stories", "timer", "txt_records",
        "values",
    },
    "cli": {
        "app", "budget", "config", "domain", "due", "errors", "formats", "io", "ports", "sandbox", "serve",
        "slugs", "stories", "timer", "txt_records", "values",
    },
    "__main__": {"cli"},
}  # fmt: skip

# Where a library may be imported: a unit, or one module of it.
THEIRS: dict[str, set[str]] = {
    "acme": {"ca"},
    "certbot": {"ca"},
    "click": {"cli"},
    "cryptography": {"ca", "certificates", "sandbox.pebble"},
    "dns": {"dns", "sandbox"},
    "filelock": {"io.locks"},
    "idna": {"domain"},
    "jinja2": {"nginx"},
    "josepy": {"ca"},
    "publicsuffixlist": {"domain"},
    "pydantic": {"config", "config_types", "serve.answers"},
    "pydantic_settings": {"config"},
    "requests": {"approval", "ca", "io.request", "io.http_errors", "notify"},
    "rich": {"cli.output.text"},
    "prometheus_client": {"serve"},
    "sqlite3": {"store"},
    "starlette": {"serve"},
    "subprocess": {"io.process"},
    "uvicorn": {"serve"},
}

# Where a call may stand.
CALLS: dict[str, set[str]] = {
    "datetime.now": {"io.clock"},
    "datetime.utcnow": {"io.clock"},
    "datetime.today": {"io.clock"},
    "date.today": {"io.clock"},
    "os.system": set(),
    "os.popen": set(),
    "os.fork": {"io.process"},
    "os.posix_spawn": {"sandbox.daemons"},
}

PROOFS = {"Delegation", "Approval"}
MAY_PROVE = {"Delegation": {"dns", "serve.privsep_monitor"}, "Approval": {"approval"}}

HOUSE = modules()
NAMES = {source.name for source in HOUSE}
MOST_NEIGHBOURS = 30
PLAN = ROOT / "docs/explanation/architecture.md"


def within(name: str, places: Iterable[str]) -> bool:
    """Tell whether a dotted name is one of the places or lies in one; the empty place is the package itself."""
    return any(name == place or (place and name.startswith(place + ".")) for place in places)


def unlawful_imports(source: Module) -> list[str]:
    found = []
    for imported in imports(source):
        head, _, rest = imported.partition(".")
        if head != "certctl":
            lawful = head not in THEIRS or within(source.name, THEIRS[head])
        else:
            unit = rest if within(rest, {"__version__"}) else rest.partition(".")[0]
            lawful = unit in {source.unit, "__version__"} or within(rest, OURS[source.unit])
        if not lawful:
            found.append(f"{source.name} imports {imported}")
    return found


def needless(sources: Sequence[Module], allowed: Mapping[str, Collection[str]]) -> list[str]:
    """Return what a unit may import and does not: each is a gap in the fence that nobody has to climb."""
    ours = [(source.unit, name) for source in sources for name in imports(source) if within(name, {"certctl"})]
    taken = {(unit, name.removeprefix("certctl").removeprefix(".")) for unit, name in ours}
    return [
        f"{unit} does not import {place or 'certctl'}"
        for unit, places in allowed.items()
        for place in places
        if not any(importer == unit and within(name, {place}) for importer, name in taken)
    ]


def drawn(page: str) -> dict[str, set[str]]:
    """Read the table of the floor plan: the units of a row, and what each may import; the package is `certctl`."""
    _, _, rest = page.partition("\n| unit | may import |\n| --- | --- |\n")
    found: dict[str, set[str]] = {}
    for row in rest.partition("\n\n")[0].splitlines():
        units, places = (re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|"))
        found |= {unit: {place.removeprefix("certctl") for place in places} for unit in units}
    return found


def neighbours(source: Module, names: Collection[str]) -> set[str]:
    """Return the modules of the house that one imports, wherever in it that stands."""
    found = set()
    for imported in imports(source):
        name = imported.removeprefix("certctl").removeprefix(".") if imported.startswith("certctl") else None
        while name and name not in names:
            name = name.rpartition(".")[0]
        if name and name != source.name:
            found.add(name)
    return found


def circles(sources: Sequence[Module]) -> list[list[str]]:
    """Return the groups of modules that import each other, by whatever way round."""
    names = {source.name for source in sources}
    reach = {source.name: neighbours(source, names) for source in sources}
    for middle in names:
        for name in names:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    groups = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in names if name in reach[name]
    }
    return sorted(map(sorted, groups))


def unlawful_calls(source: Module) -> list[str]:
    return [
        f"{source.name}:{line} calls {call}"
        for call, line in calls(source)
        for forbidden, places in CALLS.items()
        if (call == forbidden or call.endswith("." + forbidden)) and not within(source.name, places)
    ]


def forged_proofs(source: Module) -> list[str]:
    return [
        f"{source.name}:{line} makes a {name}"
        for call, line in calls(source)
        if (name := call.rpartition(".")[2]) in PROOFS and not within(source.name, MAY_PROVE[name])
    ]


def test_every_unit_of_the_house_has_a_place_in_the_plan() -> None:
    assert {source.unit for source in HOUSE} <= set(OURS)


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_a_module_imports_only_what_the_plan_allows(source: Module) -> None:
    assert unlawful_imports(source) == []


def test_the_page_shows_the_fence_as_it_is() -> None:
    assert drawn(PLAN.read_text(encoding="utf-8")) == {unit: OURS[unit] for unit in OURS if unit}


def test_nothing_is_allowed_that_nobody_needs() -> None:
    assert needless(HOUSE, OURS) == []


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_the_clock_and_other_programs_have_one_door_each(source: Module) -> None:
    assert unlawful_calls(source) == []


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_only_the_party_that_checked_can_make_a_proof(source: Module) -> None:
    assert forged_proofs(source) == []


def test_tests_make_proofs_only_in_their_fakes() -> None:
    everyone = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent.name != "fakes"]
    assert [forgery for path in everyone for forgery in forged_proofs(read(path, path.relative_to(ROOT)))] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nginx.server", "from certctl.ca.engines.certbot.engine import Certbot"),
        ("nginx.server", "from certctl.stories.issue import issue"),
        ("ca.engines.certbot.engine", "from certctl.cli import main"),
        ("ca.engines.certbot.engine", "import certctl.config"),
        ("dns.verify", "from certctl.ports import world"),
        ("stories.issue", "from certctl.io.files import write_atomic"),
        ("stories.issue", "from certctl.nginx.server import Nginx"),
        ("app.health", "from certctl.cli.output.choose import open_report"),
        ("app.health", "import click"),
        ("cli.commands.issue", "from certctl.ca.authority import Authority"),
        ("cli.commands.issue", "from certctl.store.sqlite import SqliteStore"),
        ("domain", "from certctl.values import Delegation"),
        ("errors", "import certctl.domain"),
        ("cli.commands.status", "from rich.table import Table"),
        ("stories.renew", "import click"),
        ("approval.endpoint", "import dns.resolver"),
        ("nginx.command", "import subprocess"),
        ("cli.commands.config", "import sqlite3"),
        ("nginx.master", "if 1:\n    def f():\n        from requests import get"),
    ],
)
def test_the_fence_notices(name: str, text: str) -> None:
    assert unlawful_imports(module(name, text))


def test_the_table_is_read_as_it_is_drawn() -> None:
    table = (
        "\n| unit | may import |\n| --- | --- |\n| `due`, `budget` | nothing |\n| `app` | `certctl`, `io.clock` |\n"
    )
    assert drawn(f"# X\n{table}\nbelow\n") == {"due": set(), "budget": set(), "app": {"", "io.clock"}}


def test_a_gap_in_the_fence_is_noticed() -> None:
    timer = [module("timer.units", "from certctl.io.files import read")]
    assert needless(timer, {"timer": {"io"}}) == []
    assert needless(timer, {"timer": {"io", "due"}}) == ["timer does not import due"]
    assert needless(timer, {"timer": {"io.clock"}}) == ["timer does not import io.clock"]


def test_no_modules_import_each_other_in_a_circle_not_even_late() -> None:
    assert circles(HOUSE) == []


def test_a_circle_is_noticed_through_a_late_import_and_a_package() -> None:
    one = module("stories.a", "from certctl.stories.b import x")
    two = module("stories.b", "def f():\n    from certctl.io import c")
    three = module("io.c", "import certctl.stories.a")
    assert circles([one, two, three]) == [["io.c", "stories.a", "stories.b"]]
    assert circles([one, two, module("io.c", "import json")]) == []


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_a_module_leans_on_few_others(source: Module) -> None:
    assert len(neighbours(source, NAMES)) <= MOST_NEIGHBOURS


def test_a_module_that_leans_on_many_is_noticed() -> None:
    names = {f"io.m{number}" for number in range(MOST_NEIGHBOURS + 1)}
    text = "\n".join(f"import certctl.{name}" for name in names)
    assert len(neighbours(module("x", text), names)) > MOST_NEIGHBOURS


def test_the_fence_notices_a_second_clock_and_a_forged_proof() -> None:
    assert unlawful_calls(module("stories.renew", "import datetime\nx = datetime.datetime.now(datetime.UTC)"))
    assert unlawful_calls(module("nginx.master", "import os\nos.system('nginx -t')"))
    assert forged_proofs(module("stories.issue", "x = values.Approval(None, None, True, '')"))
    assert forged_proofs(module("approval.operator", "x = Delegation(None, '', (), '')"))
    assert not forged_proofs(module("approval.operator", "x = Approval(None, None, True, '')"))
