"""What is taken out is put aside where nobody but root looks, goes after a fortnight, and leads root nowhere."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.io.files import hand_over
from certctl.nginx import aside
from certctl.nginx.server import Nginx
from certctl.nginx.settings import NginxSettings
from certctl.values import Mode

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
OWNER = 4321
LEAVES, STAYS = Domain("leaves.example.com"), Domain("stays.example.com")
PUT = """
import sys
from pathlib import Path
from certctl.domain import Domain
from certctl.io import fsuid as rights
from certctl.io.fsuid import Owner
from certctl.nginx import aside
from certctl.values import Mode
from tests.unit.test_aside import LEAVES, settings_of
rights.work_as(Owner(4321, 4321))
getattr(aside, sys.argv[2])(settings_of(Path(sys.argv[1]), Mode.LUA), LEAVES)
"""


def settings_of(place: Path, mode: Mode = Mode.BLOCKS) -> NginxSettings:
    return NginxSettings(
        config=place / "nginx.conf", conf_dir=place / "certctl.d", live=place / "state/live", sites=place / "sites",
        challenges=place / "state/challenges", site_root=place, lock_file=place / "nginx.lock", mode=mode,
    )  # fmt: skip


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "certctl.d").mkdir()
        for domain in (LEAVES, STAYS):
            for home in (place / "state/live" / domain.name, place / "sites" / domain.name):
                (home / "1").mkdir(parents=True)
                (home / "1/privkey.pem").write_text("key")
                (home / "current").symlink_to("1")
        yield place


def kept(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)).partition("-")[2] for path in top.rglob("*") if path.is_file())


def test_a_pair_is_renamed_to_where_only_root_looks_with_what_its_server_block_said(place: Path) -> None:
    keys = [place / "state/live" / LEAVES.name / "1/privkey.pem", place / "sites" / LEAVES.name / "1/privkey.pem"]
    inodes = {key.stat().st_ino for key in keys}
    old_umask = os.umask(0)
    try:
        aside.put(settings_of(place), LEAVES, "server {}\n")
    finally:
        os.umask(old_umask)
    top = place / "state/aside"
    name = "leaves.example.com"
    assert kept(top) == [f"{name}/{name}.conf", f"{name}/live/1/privkey.pem", f"{name}/sites/1/privkey.pem"]
    assert {path.stat().st_ino for path in top.rglob("privkey.pem")} == inodes
    (entry,) = top.iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (top, entry)} == {0o700}
    assert [path.name for path in (place / "sites").iterdir()] == [STAYS.name]
    assert Nginx(settings_of(place)).names() == [STAYS]


def test_what_is_taken_out_twice_in_a_second_lies_side_by_side(place: Path) -> None:
    aside.put(settings_of(place), LEAVES)
    (place / "sites" / LEAVES.name / "2").mkdir(parents=True)
    (place / "sites" / LEAVES.name / "2/privkey.pem").touch()
    aside.put(settings_of(place), LEAVES)
    assert len(list((place / "state/aside").rglob("privkey.pem"))) == 3


def test_a_removal_deletes_all_that_is_aside_of_its_name_and_nothing_else(place: Path) -> None:
    for domain in (LEAVES, STAYS):
        aside.put(settings_of(place), domain)
    taken_over = place / "state/aside/20261101T000000Z-ab12-taken-over/live"
    for name in (LEAVES.name, STAYS.name):
        (taken_over / name).mkdir(parents=True)
    aside.discard(settings_of(place), LEAVES)
    assert {name.partition("/")[0] for name in kept(place / "state/aside")} == {STAYS.name}
    assert [path.name for path in taken_over.iterdir()] == [STAYS.name]


def test_a_removal_says_so_where_a_key_that_is_aside_stays_and_the_fortnight_does_not_stop_a_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside.put(settings_of(place), LEAVES)
    (place / "state/aside/20260101T000000Z-old.example.com").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(ConfigInvalid, match="Read-only file system") as caught:
        aside.discard(settings_of(place), LEAVES)
    assert caught.value.slug == "state-unwritable"
    aside.expire(settings_of(place))


def test_after_a_fortnight_everything_goes_whoever_put_it_there(place: Path) -> None:
    aside.put(settings_of(place), STAYS)
    top = place / "state/aside"
    for old in ("20260101T000000Z-old.example.com/live", "20260101T000000Z-ab12-taken-over/planted", "notes"):
        (top / old).mkdir(parents=True)
    near = place / "sites/.aside/20260101T000000Z-old.example.com"
    near.mkdir(parents=True)
    aside.expire(settings_of(place))
    assert sorted(path.name.partition("-")[2] or path.name for path in top.iterdir()) == ["notes", STAYS.name]
    assert not near.exists()


def test_between_two_file_systems_it_stays_beside_the_pairs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, above = os.rename, place / "state/aside"

    def refuse(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if Path(f"/proc/self/fd/{dst_dir_fd}").readlink().is_relative_to(above):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", refuse)
    settings = settings_of(place)
    aside.put(settings, LEAVES)
    assert kept(place / "sites/.aside") == [f"{LEAVES}/sites/1/privkey.pem"]
    assert kept(place / "state/live/.aside") == [f"{LEAVES}/live/1/privkey.pem"]
    assert Nginx(settings).names() == [STAYS]
    aside.discard(settings, LEAVES)
    assert kept(place / "sites/.aside") == kept(place / "state/live/.aside") == []


def as_owner(place: Path, what: str = "put") -> None:
    for path in (place / "state", *(place / "state").rglob("*")):
        if path.lstat().st_uid == 0 and "aside" not in path.parts:
            os.chown(path, OWNER, OWNER, follow_symlinks=False)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", PUT, str(place), what], check=True, timeout=120, env=environment)


@AS_ROOT
def test_in_a_state_of_somebody_elses_what_is_aside_is_roots_and_is_not_handed_over(place: Path) -> None:
    as_owner(place)
    top = place / "state/aside"
    assert len(list(top.rglob("privkey.pem"))) == 2
    assert (top.stat().st_uid, stat.S_IMODE(top.stat().st_mode)) == (0, 0o700)
    hand_over(place / "state", OWNER, OWNER, sparing=aside.NAME)
    assert {path.stat().st_uid for path in (top, *top.iterdir())} == {0}
    as_owner(place, "discard")
    assert list(top.iterdir()) == []


@AS_ROOT
def test_a_place_aside_that_its_owner_planted_gets_nothing_of_roots(place: Path) -> None:
    (place / "docroot").mkdir()
    (place / "state/aside").symlink_to(place / "docroot")
    as_owner(place)
    assert list((place / "docroot").iterdir()) == []
    (mine,) = (place / "sites/.aside").rglob("privkey.pem")
    assert mine.stat().st_uid == 0
    assert len(list((place / "state/live/.aside").rglob("privkey.pem"))) == 1


@AS_ROOT
def test_a_directory_of_somebody_elses_is_not_aside(place: Path) -> None:
    (place / "state/aside").mkdir()
    os.chown(place / "state/aside", OWNER, OWNER)
    as_owner(place)
    assert list((place / "state/aside").iterdir()) == []
    assert not (place / "sites" / LEAVES.name).exists()


@AS_ROOT
def test_a_link_in_the_place_of_the_pairs_takes_nothing_of_roots_away(place: Path) -> None:
    theirs = place / "letsencrypt"
    (place / "state/live").rename(theirs)
    (place / "state/live").symlink_to(theirs)
    for path in (theirs, *theirs.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)
    with pytest.raises(subprocess.CalledProcessError):
        as_owner(place)
    assert (theirs / LEAVES.name / "1/privkey.pem").exists()
    assert not (place / "state/aside").exists() or not list((place / "state/aside").rglob("privkey.pem"))


def test_what_a_killed_run_left_without_a_pair_in_force_names_nobody(place: Path) -> None:
    for top in (place / "state/live", place / "sites"):
        (top / LEAVES.name / "current").unlink()
    (place / "state/live/planted.example.com").symlink_to(place / "state/live" / STAYS.name)
    assert Nginx(settings_of(place)).names() == [STAYS]
