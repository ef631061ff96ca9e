"""Where only root can read the checkout, ./check and ./demo go on in a copy that everybody can read."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.real_sandbox import open_place
from tests.meta.source import ROOT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT PROVED: for anybody else the checkout is where it is"
)

PROGRAM = """#!/bin/sh
set -eu
cd "$(dirname "$0")"
. .ci/place.sh
copies={copies}
work_where_all_can_read "$@"
mkdir -p .venv && echo made >>.venv/times
setpriv --reuid=65534 --regid=65534 --clear-groups cat "$(pwd)/code/module"
printf '%s|' "$(cat .venv/times)" "$(ls code)" "$@"
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Yield a checkout that somebody with umask 077 made in a home of 0700."""
    with open_place() as place:
        home = place / "home/certctl"
        (home / "code").mkdir(parents=True)
        (home / ".git").mkdir()
        shutil.copytree(ROOT / ".ci", home / ".ci")
        (home / "code/module").write_text("old\n")
        (home / "code/module").chmod(0o600)
        (home / "program").write_text(PROGRAM.format(copies=place / "copies"))
        (home / "program").chmod(0o700)
        home.parent.chmod(0o700)
        yield home


def run(home: Path, *arguments: str) -> list[str]:
    done = subprocess.run([home / "program", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_goes_on_in_a_copy_that_follows_the_checkout_and_keeps_its_venv(home: Path) -> None:
    told, *rest = run(home, "--fast", "a b")
    assert told.startswith(f"  only root can read {home}")
    assert rest == ["old", "made|module|--fast|a b|"]
    (home / "code/module").write_text("new\n")
    (home / "code/other").touch()
    assert run(home)[1:] == ["new", "made", "made|module", "other|"]
    (home / "code/other").unlink()
    assert run(home)[1:] == ["new", "made", "made", "made|module|"]
    assert not (home / ".venv").exists()


def test_a_checkout_that_everybody_can_read_is_not_copied(home: Path) -> None:
    home.parent.chmod(0o755)
    (home / "program").chmod(0o755)
    (home / "code/module").chmod(0o644)
    assert run(home) == ["old", "made|module|"]
    assert not (home.parent.parent / "copies").exists()
