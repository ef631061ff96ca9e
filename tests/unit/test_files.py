"""Private from the first byte, whole or not at all."""

import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.errors import ConfigInvalid
from certctl.io.files import (
    flush,
    hand_over,
    make_directory,
    narrow,
    swap_symlink,
    write_atomic,
    write_new,
    writing,
)
from certctl.io.locks import lock
from certctl.io.sockets import bind

SOMEBODY = 65_534
_before_calls: dict[str, Callable[[], None]] = {}


def _audit(event: str, _arguments: object) -> None:
    if act := _before_calls.pop(event, None):
        act()


sys.addaudithook(_audit)  # it stays; an event nobody waits for costs one look


@contextmanager
def right_before(event: str, act: Callable[[], None]) -> Iterator[None]:
    """Let somebody act right before the next system call of a kind: the worst moment there is."""
    _before_calls[event] = act
    try:
        yield
    finally:
        assert _before_calls.pop(event, None) is None, f"{event} never came"


def replaced(path: Path, by: Path) -> Callable[[], None]:
    """Return what puts a link where something of ours was."""

    def act() -> None:
        path.rename(path.with_name("ours"))
        path.symlink_to(by)

    return act


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def any_umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("any_umask")
def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    write_atomic(tmp_path / "key", "secret")
    write_atomic(tmp_path / "token", "public", 0o644)
    make_directory(tmp_path / "a" / "b", 0o711)
    assert (mode(tmp_path / "key"), mode(tmp_path / "token"), mode(tmp_path / "a" / "b")) == (0o600, 0o644, 0o711)


def test_a_failed_replacement_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "directory"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        write_atomic(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_a_new_file_never_follows_a_link_someone_planted(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "link", b"x")
    assert not victim.exists()


def test_a_link_is_swapped_in_one_step(tmp_path: Path) -> None:
    link = tmp_path / "current"
    swap_symlink(link, "1")
    swap_symlink(link, "2")
    assert link.readlink() == Path("2")
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_an_os_error_becomes_a_sentence_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught, writing(tmp_path):
        (tmp_path / "absent" / "file").write_text("x")
    assert caught.value.slug == "state-unwritable"
    assert str(tmp_path / "absent" / "file") in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_tree_is_handed_over_and_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "one/two").mkdir(parents=True)
    (tmp_path / "one/two/key").touch(0o400)
    (tmp_path / "one/link").symlink_to("/etc/passwd")
    (tmp_path / "one/away").symlink_to("/etc/init.d")
    hand_over(tmp_path, 4321, 4322)
    owners = {path.lstat().st_uid: path.lstat().st_gid for path in tmp_path.rglob("*")}
    assert owners == {4321: 4322}
    for elsewhere in (Path("/etc/passwd"), *Path("/etc/init.d").iterdir()):
        assert elsewhere.stat().st_uid == 0, "a link is given away, not where it leads"
    assert mode(tmp_path / "one/two/key") == 0o400


def test_what_is_flushed_may_hold_anything(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    flush(tmp_path)
    assert (tmp_path / "key").read_text() == "x"


def test_a_new_directory_that_turned_into_a_link_opens_nothing_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    with right_before("os.chmod", replaced(tmp_path / "new", by=secret)), suppress(OSError):
        make_directory(tmp_path / "new", 0o755)
    assert mode(secret) == 0o700
    (tmp_path / "new").unlink()
    with pytest.raises(OSError), right_before("open", replaced(tmp_path / "new", by=secret)):  # noqa: PT011 - any errno
        make_directory(tmp_path / "new", 0o755)
    assert mode(secret) == 0o700


def test_only_a_link_that_nobody_else_can_have_put_is_followed_to_close_a_directory(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (tmp_path / "acme").symlink_to(elsewhere)
    narrow(tmp_path / "acme", 0o711)
    assert mode(elsewhere) == 0o711
    if os.geteuid() == 0:
        os.chown(tmp_path, SOMEBODY, SOMEBODY)
        with pytest.raises(OSError, match="acme"):
            narrow(tmp_path / "acme", 0o700)
        assert mode(elsewhere) == 0o711


def test_a_lock_is_no_way_to_make_a_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "nginx.lock").symlink_to(tmp_path / "made")
    with pytest.raises(ConfigInvalid), lock(tmp_path / "nginx.lock", timedelta(0), "nginx"):
        pass
    assert not (tmp_path / "made").exists()


def test_a_socket_that_turned_into_a_link_gives_nobody_a_file() -> None:
    place = Path(tempfile.mkdtemp())  # pytest's are too long for a socket's address
    try:
        secret, path = place / "secret", place / "serve.sock"
        secret.touch(0o600)
        with right_before("os.chown", replaced(path, by=secret)), bind(path, socket.SOCK_STREAM, os.getegid()):
            pass
        assert mode(secret) == 0o600
        assert mode(place / "ours") == 0o660
    finally:
        shutil.rmtree(place)
