"""Root starts a program as root only where the call says why; every other one runs as the owner of the state."""

import ast
from collections.abc import Iterator

import pytest

from tests.meta.source import Module, imports, module, modules

STARTERS = {"run", "running", "fork"}
PROCESS = "certctl.io.process"

# Whom root starts as root, and the module that does. All else follows links and reads options of the state's owner.
ROOTS = {
    "nginx.command": "nginx -t, -T, -v and -V",
    "nginx.master": "[nginx] reload",
    "io.accounts": "groupadd, useradd",
    "timer.systemd": "systemctl",
    "notify.notifier": "[notify] command",
}
OWNERS = {"ca.engines.certbot.command": "certbot"}
FORKS = {
    "serve.privsep_monitor": "the process that hears strangers: it becomes [serve] user before it hears anybody",
    "io.legible": "it becomes [serve] user to see what that user may read, and reads nothing",
}


def starts(source: Module) -> Iterator[tuple[str, str]]:
    """Every call that starts a process, as (function, why it is root's); the reason is a text, or ''."""
    if source.name == "io.process":
        return
    known = set(imports(source))
    texts = {
        target.id: node.value.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in (node for node in ast.walk(source.tree) if isinstance(node, ast.Call)):
        place, _, name = ast.unparse(call.func).rpartition(".")
        is_bare = not place and f"{PROCESS}.{name}" in known
        if name in STARTERS and (is_bare or (place == "process" and PROCESS in known)):
            assert not any(word.arg is None for word in call.keywords), f"{source.name}: ** hides who it runs as"
            why = next((word.value for word in call.keywords if word.arg == "root_because"), ast.Constant(""))
            yield name, str(why.value if isinstance(why, ast.Constant) else texts[ast.unparse(why)])


def faults(source: Module) -> list[str]:
    found = list[str]()
    for function, why in starts(source):
        allowed = FORKS if function == "fork" else ROOTS if why else OWNERS
        if source.name not in allowed:
            found.append(f"{source.name} starts a program as {'root' if why else 'the owner'}: say who it is above")
    return found


HOUSE = modules()


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name)
def test_who_a_started_program_runs_as_is_decided_and_written_down(source: Module) -> None:
    assert faults(source) == []


def test_the_list_names_nobody_who_starts_nothing() -> None:
    starting = {source.name for source in HOUSE if list(starts(source))}
    assert starting == {*ROOTS, *OWNERS, *FORKS}


def test_a_program_that_nobody_thought_about_is_found() -> None:
    by_name = "from certctl.io.process import run\nrun(['id'], deadline=d)\n"
    by_module = "from certctl.io import process\nprocess.running(['id'], output=o, root_because='why not')\n"
    forked = "from certctl.io import process\nprocess.fork(work)\n"
    assert all(len(faults(module("dns.ask", text))) == 1 for text in (by_name, by_module, forked))
    assert faults(module("ca.engines.certbot.command", by_module)) != []
    assert faults(module("nginx.command", by_name)) != []
