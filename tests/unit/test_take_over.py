"""The state becomes root's again: what certctl keeps is there, what was planted is not, whenever it is killed."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from certctl.ca.settings import CaSettings, order_request_for
from certctl.ca.state_copy import copy_state
from certctl.ca.workdir import WorkingDirectory
from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.io.clock import SystemClock
from certctl.io.files import hand_over
from certctl.store.sqlite import SqliteStore
from certctl.values import Issued, Site
from tests.real_nginx import make_site

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take over what is another user's")
OWNER = 4321
KILLED, MANY = 99, 30
ACCOUNT = "acme/accounts/ca.example/dir/0123/private_key.json"
WORK = "acme/work"
BEGUN = f"{WORK}/begun.example.com"
TAKE = """
import os, sys
from pathlib import Path
from certctl.cli.framework import Invocation
from certctl.app.directories import prepare_directories
from certctl.cli.opening import open_context
place, last = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def die(event, arguments):
    global count
    if event in {"os.rename", "os.chown", "os.mkdir", "os.remove", "os.rmdir", "os.symlink"}:
        count += 1
        if count == last:
            os._exit(99)
context = open_context(Invocation(root=place, config=place / "config.toml"))
sys.addaudithook(die)
prepare_directories(context)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A host whose state is another user's, who put links into it."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


def build(place: Path) -> Path:
    state, docroot = place / "var/lib/certctl", place / "docroot"
    (docroot / "victim.example.com").mkdir(parents=True)
    (docroot / "victim.example.com" / "page.html").write_text("root's")
    (place / "config.toml").write_text("# the defaults\n")
    settings = CaSettings("https://ca.example/dir", state / "acme", state / "challenges")
    workdir = WorkingDirectory(state / BEGUN)
    workdir.make(settings)
    workdir.ask(order_request_for(Domain("begun.example.com"), settings))
    workdir.keep(b"chain")
    for path in (state / ACCOUNT, state / "live/known.example.com/1/privkey.pem", state / "challenges/token"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    for planted, target in (
        (f"{WORK}/victim.example.com", docroot / "victim.example.com"), ("acme/registration", docroot),
        ("acme/accounts/planted", docroot), ("live/victim.example.com", docroot), ("planted", docroot),
        (f"{BEGUN}/request.pem", docroot / "victim.example.com/page.html"),
    ):  # fmt: skip
        (state / planted).unlink(missing_ok=True)
        (state / planted).symlink_to(target)
    locks = place / "run/certctl/locks"
    locks.mkdir(parents=True)
    (locks / "domains").symlink_to(docroot)
    (locks / "nginx.lock").touch()
    for top in (state, place / "run/certctl"):
        for path in (top, *top.rglob("*")):
            os.chown(path, OWNER, OWNER, follow_symlinks=False)
    return state


def take(place: Path, last: int = 0) -> int:
    argv = [sys.executable, "-c", TAKE, str(place), str(last)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in {0, KILLED}, ended.stderr
    return ended.returncode


def require_taken(place: Path) -> None:
    state, settings = place / "var/lib/certctl", CaSettings("https://ca.example/dir", place, place)
    assert (state / ACCOUNT).read_text() == "kept"
    workdir = WorkingDirectory(state / BEGUN)
    assert workdir.asked(order_request_for(Domain("begun.example.com"), settings))
    assert workdir.result() == (b"chain", workdir.key.read_bytes())
    assert (workdir.config / "accounts").readlink() == state / "acme/accounts"
    tops = (place / "run/certctl", *(p for p in state.iterdir() if p.name != "aside"))
    links = [path for top in tops for path in (top, *top.rglob("*")) if path.is_symlink()]
    assert links == [workdir.config / "accounts"]
    kept = [path for top in tops for path in (top, *top.rglob("*"))]
    assert {path.lstat().st_uid for path in kept} == {0}
    names = {path.name for path in state.iterdir()} - {"certctl.db-wal", "certctl.db-shm"}
    assert names == {"acme", "aside", "certctl.db", "challenges", "live"}
    assert (place / "docroot/victim.example.com/page.html").read_text() == "root's"
    assert (state / "aside").stat().st_mode & 0o777 == 0o700
    assert not (place / "var/lib/certctl-sites/.moving").exists()


@AS_ROOT
def test_what_the_owner_planted_goes_aside_and_what_the_ca_made_stays(place: Path) -> None:
    state = build(place)
    assert take(place) == 0
    require_taken(place)
    assert (state / "acme").stat().st_mode & 0o777 == 0o700
    assert list((state / "challenges").iterdir()) == list((state / "live").iterdir()) == []
    (found,) = (state / "aside").glob("*-taken-over")
    assert {path.name for path in found.iterdir()} == {"acme", "live", "planted"}
    assert take(place) == 0
    assert [path.name for path in (state / "aside").iterdir()] == [found.name], "it is taken over once"


@AS_ROOT
def test_the_last_pairs_of_names_that_the_store_has_lost_stay_aside(place: Path) -> None:
    state = build(place)
    (state / "live/victim.example.com").unlink()
    put_pair(state, "lost.example.com")
    assert take(place) == 0
    (found,) = (state / "aside").glob("*-taken-over")
    assert (found / "live/lost.example.com/1/privkey.pem").exists()


@AS_ROOT
def test_pairs_that_the_store_has_are_not_kept_twice(place: Path) -> None:
    state = build(place)
    (state / "live/victim.example.com").unlink()
    site = put_pair(state, "known.example.com")
    store = SqliteStore(state / "certctl.db", SystemClock())
    store.keep(Issued(site.certificate, site.pem))
    store.close()
    for path in state.glob("certctl.db*"):
        os.chown(path, OWNER, OWNER)
    assert take(place) == 0
    (found,) = (state / "aside").glob("*-taken-over")
    assert not (found / "live").exists()


def put_pair(state: Path, name: str) -> Site:
    """Put a pair where the owner of the state has them."""
    site = make_site(trustme.CA(), name, 1)
    (home := state / "live" / name / "1").mkdir(parents=True, exist_ok=True)
    (home / "privkey.pem").write_text(site.pem.private_key)
    (home / "fullchain.pem").write_text(site.pem.fullchain)
    (home.parent / "current").symlink_to("1")
    for path in (home.parent, *home.parent.rglob("*")):
        os.chown(path, OWNER, OWNER, follow_symlinks=False)
    return site


@AS_ROOT
def test_a_kill_at_any_step_is_made_good_by_the_next_command() -> None:
    last, ended = 0, KILLED
    while ended == KILLED:
        last += 4
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            place.chmod(0o755)
            build(place)
            ended = take(place, last)
            assert take(place) == 0, last
            require_taken(place)
    assert last >= MANY, "there are steps to die at"


@AS_ROOT
@pytest.mark.parametrize("kind", ["link", "second name"])
def test_a_store_that_is_somebody_elses_file_is_refused_and_nothing_is_taken(place: Path, kind: str) -> None:
    state = build(place)
    outside, store = place / "docroot" / "victim.example.com" / "page.html", state / "certctl.db"
    (store.symlink_to if kind == "link" else store.hardlink_to)(outside)
    argv = [sys.executable, "-c", TAKE, str(place), "0"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "certctl.db is a link, or lies elsewhere too: it is not taken over" in ended.stderr
    assert state.stat().st_uid == OWNER
    assert outside.stat().st_uid == 0


@AS_ROOT
def test_nothing_is_given_away_by_another_name_of_it(place: Path) -> None:
    (place / "tree").mkdir()
    (place / "roots").write_text("root's")
    (place / "tree" / "planted").hardlink_to(place / "roots")
    with pytest.raises(ConfigInvalid):
        hand_over(place / "tree", OWNER, OWNER)
    assert (place / "roots").stat().st_uid == 0
    assert (place / "tree").stat().st_uid == 0, "the top goes last, so the same command can do it again"


def test_a_directory_that_is_a_link_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "name").mkdir(parents=True)
    (tmp_path / "elsewhere" / "name" / "privkey.pem").write_text("x")
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "work").symlink_to(tmp_path / "elsewhere")
    copy_state(tmp_path / "acme", tmp_path / "fresh")
    assert [path.name for path in (tmp_path / "fresh" / "work").iterdir()] == []
