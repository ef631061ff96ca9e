"""Private from the first byte, whole or not at all."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.errors import Busy, ConfigInvalid
from certctl.io import locks
from certctl.io.files import (
    NotRegular,
    flush,
    hand_over,
    make_directory,
    narrow,
    open_regular,
    read_regular,
    reason,
    remove_tree,
    require_room,
    rewrite,
    swap_symlink,
    write_atomic,
    write_new,
    writing,
)
from certctl.io.locks import inheritable_lock, lock
from certctl.io.sockets import bind

SOMEBODY = 65_534
Take = Callable[[Path, timedelta, str], AbstractContextManager[object]]
LOCKS = pytest.mark.parametrize("take", [lock, inheritable_lock])
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


def test_what_must_outlive_a_power_cut_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, int, bool]] = []

    def note(descriptor: int) -> None:
        facts = os.fstat(descriptor)
        is_file = stat.S_ISREG(facts.st_mode)
        flushed.append((is_file, facts.st_size if is_file else 0, (tmp_path / "key").exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_atomic(tmp_path / "token", b"x" * 10, durable=False)
    assert flushed == []
    write_atomic(tmp_path / "key", b"x" * 10)
    assert flushed == [(True, 10, False), (False, 0, True)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_rewritten_file_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("old")
    os.chown(path, 4321, 4322)
    rewrite(path, "new", 0o644)
    assert (path.read_text(), path.stat().st_uid, path.stat().st_gid) == ("new", 4321, 4322)


@pytest.mark.parametrize(
    ("blocks", "files", "limit", "fits"),
    [
        (1_000_000, 100, 1000, True),
        (999_999, 100, 1000, False),
        (1_000_000, 99, 1000, False),
        (1_000_000, 0, 0, True),  # btrfs has no limit on files
    ],
)
def test_there_is_room_while_a_certificate_and_its_log_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, files: int, limit: int, *, fits: bool
) -> None:
    left = os.statvfs_result((4096, 2, 10**7, 10**7, blocks, limit, files, files, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: left)
    with nullcontext() if fits else pytest.raises(ConfigInvalid, match="too little room"):
        require_room(tmp_path)


def plant_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


NOT_FILES: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to(__file__),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "FIFO": os.mkfifo,
    "directory": Path.mkdir,
    "socket": plant_socket,
}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_no_file_is_not_opened_and_keeps_nobody_waiting(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.chdir(place)  # pytest's are too long for a socket's address
        NOT_FILES[kind](Path("planted"))
        with pytest.raises(NotRegular):
            open_regular(Path("planted"))


def test_a_file_is_read_and_no_more_of_it_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_regular(tmp_path / "file", 4) == b"0123"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "absent", 4)


def test_what_is_no_directory_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "acme")
    with pytest.raises(NotADirectoryError):
        narrow(tmp_path / "acme", 0o700)


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


@pytest.mark.parametrize("named", [None, 7, "file"])
def test_an_os_error_that_names_no_path_is_said_with_the_place_it_happened_in(named: str | int | None) -> None:
    """The kernel names nothing after a failed flush, and a name within a descriptor alone."""
    error = OSError(errno.ENOSPC, "No space left on device", named)
    assert reason(error, Path("/etc/nginx")) == "/etc/nginx: No space left on device"
    assert reason(OSError(errno.EIO, "broken", "/a/b"), Path("/etc/nginx")) == "/a/b: broken"


def test_an_os_error_that_names_nothing_is_about_the_path_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught, writing(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert f"{tmp_path}: No space left on device" in caught.value.message


def test_a_removal_takes_whatever_lies_there_and_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    there = tmp_path / "there"
    there.mkdir()
    (there / "tree/below").mkdir(parents=True)
    (there / "file").touch()
    for name, target in (("away", elsewhere), ("link", elsewhere / "file"), ("dangling", tmp_path / "nowhere")):
        (there / name).symlink_to(target)
    for path in (*there.iterdir(), there / "absent"):
        remove_tree(path)
    assert (list(there.iterdir()), list(elsewhere.iterdir())) == ([], [elsewhere / "file"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_tree_is_handed_over_and_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    (tree / "one/two").mkdir(parents=True)
    (tree / "one/two/key").touch(0o400)
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tree / "one/link").symlink_to(elsewhere / "file")
    (tree / "one/away").symlink_to(elsewhere)
    hand_over(tree, 4321, 4322)
    owners = {path.lstat().st_uid: path.lstat().st_gid for path in (tree, *tree.rglob("*"))}
    assert owners == {4321: 4322}
    for roots in (elsewhere, elsewhere / "file"):
        assert roots.stat().st_uid == 0, "a link is given away, not where it leads"
    assert mode(tree / "one/two/key") == 0o400


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_tree_that_is_a_link_is_given_away_only_where_nobody_else_can_have_put_it(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "theirs" / "acme"
    elsewhere.mkdir()
    link.parent.mkdir()
    link.symlink_to(elsewhere)
    os.chown(link.parent, SOMEBODY, SOMEBODY)
    with pytest.raises(OSError, match="acme"):
        hand_over(link, 4321, 4322)
    assert elsewhere.stat().st_uid == 0
    os.chown(link.parent, 0, 0)
    hand_over(link, 4321, 4322)
    assert elsewhere.stat().st_uid == 4321


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("before", "after"), [(SOMEBODY, 0), (0, SOMEBODY)])
def test_while_root_looks_into_a_directory_it_is_roots(tmp_path: Path, before: int, after: int) -> None:
    tree, seen = tmp_path / "tree", list[int]()
    tree.mkdir()
    os.chown(tree, before, before)
    with right_before("os.listdir", lambda: seen.append(tree.stat().st_uid)):
        hand_over(tree, after, after)
    assert (seen, tree.stat().st_uid) == ([0], after)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_socket_keeps_its_owner_and_a_name_that_vanishes_meanwhile_is_passed_over(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place)
        plant_socket(tree / "serve.sock")
        for name in ("one", "two"):
            (tree / name).touch()

        def vanish() -> None:
            left = next(path for path in (tree / "one", tree / "two") if path.exists())
            left.rename(tmp_path / "gone")

        def then_vanish() -> None:
            _before_calls["open"] = vanish  # before the first of them is opened

        with right_before("os.listdir", then_vanish):
            hand_over(tree, 4321, 4322)
        owners = {path.name: path.stat().st_uid for path in tree.iterdir()}
        assert owners.pop("serve.sock") == 0
        assert list(owners.values()) == [4321]


def test_what_is_flushed_may_hold_anything_and_is_its_files_and_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "away").symlink_to(__file__)
    flushed: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(Path(f"/proc/self/fd/{number}").readlink()))
    flush(tmp_path)
    assert flushed == [tmp_path / "key", tmp_path]


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


@pytest.mark.usefixtures("any_umask")
@LOCKS
def test_a_lock_is_for_nobody_else_to_hold(tmp_path: Path, take: Take) -> None:
    with take(tmp_path / "locks" / "nginx.lock", timedelta(0), "nginx"):
        assert (mode(tmp_path / "locks"), mode(tmp_path / "locks" / "nginx.lock")) == (0o700, 0o600)


@LOCKS
def test_a_lock_that_cannot_be_made_is_a_fault_of_this_host(tmp_path: Path, take: Take) -> None:
    (tmp_path / "locks").touch()
    with pytest.raises(ConfigInvalid), take(tmp_path / "locks" / "nginx.lock", timedelta(0), "nginx"):
        pass


@LOCKS
def test_who_does_not_get_a_lock_is_told_who_has_it(tmp_path: Path, take: Take) -> None:
    path = tmp_path / "nginx.lock"
    with take(path, timedelta(0), "nginx"), pytest.raises(Busy) as caught, take(path, timedelta(0), "nginx"):
        pass
    assert f"(process {os.getpid()})" in caught.value.message
    assert str(path) in caught.value.seen[0]


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """Have another process hold a lock."""
    argv = ["flock", "--no-fork", str(path), "sh", "-c", "echo held; exec sleep 600"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout
            assert other.stdout.readline() == b"held\n"
            yield
        finally:
            other.kill()


@LOCKS
def test_nobody_is_named_who_holds_another_lock(tmp_path: Path, take: Take) -> None:
    path = tmp_path / "nginx.lock"
    with held_elsewhere(tmp_path / "one"), take(path, timedelta(0), "nginx"), held_elsewhere(tmp_path / "two"):
        message = refusal(path, take)
    assert f"(process {os.getpid()})" in message


def refusal(path: Path, take: Take) -> str:
    with pytest.raises(Busy) as caught, take(path, timedelta(0), "nginx"):
        pass
    return caught.value.message


@LOCKS
def test_a_lock_that_is_let_go_in_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: Take
) -> None:
    path, holder = tmp_path / "nginx.lock", ExitStack()
    holder.enter_context(take(path, timedelta(0), "nginx"))
    monkeypatch.setattr(locks, "nap", lambda *_: holder.close())
    with take(path, timedelta(minutes=5), "nginx"):
        pass


@LOCKS
def test_a_lock_is_let_go_although_somebody_keeps_the_error_that_ended_the_work(tmp_path: Path, take: Take) -> None:
    path = tmp_path / "nginx.lock"
    with pytest.raises(KeyError) as kept, take(path, timedelta(0), "nginx"):
        raise KeyError
    with take(path, timedelta(0), "nginx"):
        assert kept.value is not None


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
