"""Private from the first byte, whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from certctl.errors import ConfigInvalid
from certctl.io.files import adopt_tree, flush, make_directory, swap_symlink, write_atomic, write_new, writing


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
def test_what_another_program_made_as_root_belongs_to_the_owner_of_the_tree(tmp_path: Path) -> None:
    os.chown(tmp_path, 4321, 4322)
    (tmp_path / "one/two").mkdir(parents=True)
    (tmp_path / "one/two/key").touch(0o400)
    (tmp_path / "one/link").symlink_to("/etc/passwd")
    adopt_tree(tmp_path)
    owners = {path.lstat().st_uid: path.lstat().st_gid for path in tmp_path.rglob("*")}
    assert owners == {4321: 4322}
    assert Path("/etc/passwd").stat().st_uid == 0, "a link is given away, not where it leads"
    assert mode(tmp_path / "one/two/key") == 0o400


def test_what_is_flushed_may_hold_anything(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    flush(tmp_path)
    assert (tmp_path / "key").read_text() == "x"
