"""``certctl --help`` and ``--version`` load click and nothing heavy; importing is what makes a command slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "acme", "certbot", "cryptography", "dns", "filelock", "idna", "jinja2", "publicsuffixlist", "pydantic",
    "prometheus_client", "pydantic_settings", "requests", "rich", "sqlite3", "ssl", "starlette", "tomllib",
    "uvicorn",
}  # fmt: skip

OF_PARTIES = {"acme", "cryptography", "dns", "jinja2", "josepy"}

_RUN = """
import json, sys
sys.argv = ["certctl", *json.loads(sys.argv[1])]
from certctl.cli import main
try:
    main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def loaded(*arguments: str) -> set[str]:
    """Run the command line in a fresh interpreter and return the top-level modules it loaded."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return set(json.loads(ended.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("-h",), ("nonsense",), ()])
def test_saying_what_there_is_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    names = loaded(*arguments)
    assert "click" in names
    assert names & HEAVY == set()


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("renew", "--dry-run")])
def test_looking_into_the_store_loads_no_party(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    names = loaded("--root", str(tmp_path), *arguments)
    assert "sqlite3" in names
    assert names & OF_PARTIES == set()


def test_the_watch_sees_what_a_command_loads() -> None:
    assert {"pydantic", "click"} <= loaded("config", "schema")
    assert "rich" not in loaded("config", "schema", "--json")
