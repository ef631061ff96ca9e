"""The way back: byte for byte, as often as needed, and not to be interrupted."""

import errno
import json
import signal
import threading
from pathlib import Path

import pytest

from certctl.nginx.rollback import Rollback, undisturbed


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    live, conf_dir = tmp_path / "live", tmp_path / "certctl.d"
    live.mkdir()
    conf_dir.mkdir()
    return live, conf_dir


def test_what_a_killed_run_left_is_taken_back_by_the_next(places: tuple[Path, Path]) -> None:
    live, conf_dir = places
    kept, new, link = conf_dir / "kept.conf", conf_dir / "new.conf", live / "current"
    kept.write_text("old")
    link.symlink_to("1")
    undo = Rollback(live, live.with_name("sites"), conf_dir)
    made = live / "made"
    undo.remember((kept, new, link), [made])
    made.mkdir()
    kept.unlink()
    kept.write_text("new")
    new.write_text("new")
    link.unlink()
    link.symlink_to("2")

    assert Rollback(live, live.with_name("sites"), conf_dir).recover()
    assert kept.read_text() == "old"
    assert str(link.readlink()) == "1"
    assert {path.name for path in (*live.iterdir(), *conf_dir.iterdir())} == {"kept.conf", "current"}
    assert not Rollback(live, live.with_name("sites"), conf_dir).recover()


def test_taking_back_and_keeping_write_nothing(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk names may go and change, and no byte may be written."""
    live, conf_dir = places
    for keep in (False, True):
        block = conf_dir / "a.conf"
        block.write_text("old")
        undo = Rollback(live, live.with_name("sites"), conf_dir)
        undo.remember([block, conf_dir / "b.conf"], [live / "made"])
        block.unlink()
        block.write_text("new")
        undo.keep()
        with monkeypatch.context() as disk:
            disk.setattr("certctl.nginx.rollback.write_atomic", _full)
            undo.drop() if keep else undo.restore()
        assert block.read_text() == ("new" if keep else "old")
        assert [path.name for path in conf_dir.iterdir()] == ["a.conf"]


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_killed_once_its_change_is_to_stay_is_cleaned_up_after_and_the_change_stays(
    places: tuple[Path, Path],
) -> None:
    live, conf_dir = places
    block, link = conf_dir / "a.conf", live / "a.test" / "current"
    block.write_text("old")
    link.parent.mkdir()
    link.symlink_to("1")
    undo = Rollback(live, live.with_name("sites"), conf_dir)
    undo.remember([block, link], [live / "a.test" / "2"])
    (live / "a.test" / "2").mkdir()
    for path in (block, link):
        path.unlink()
    block.write_text("new")
    link.symlink_to("2")
    undo.keep()

    assert not Rollback(live, live.with_name("sites"), conf_dir).recover()
    assert (block.read_text(), str(link.readlink())) == ("new", "2")
    assert {path.name for path in (*conf_dir.iterdir(), *link.parent.iterdir())} == {"a.conf", "2", "current"}


def test_a_change_that_was_kept_and_then_proved_wrong_is_taken_back_by_the_next_run(
    places: tuple[Path, Path],
) -> None:
    """Killed while it put things back, after nginx had passed its test and failed its reload."""
    live, conf_dir = places
    paths = [conf_dir / f"{number}.conf" for number in range(2)]
    for path in paths:
        path.write_text("old")
    undo = Rollback(live, live.with_name("sites"), conf_dir)
    undo.remember(paths)
    for path in paths:
        path.unlink()
        path.write_text("new")
    undo.keep()
    paths[0].unlink()
    paths[0].mkdir()  # cannot be put back
    with pytest.raises(OSError, match="directory"):
        undo.restore()
    paths[0].rmdir()
    assert Rollback(live, live.with_name("sites"), conf_dir).recover()
    assert [path.read_text() for path in paths] == ["old", "old"]


def test_a_journal_never_costs_the_version_in_force(places: tuple[Path, Path]) -> None:
    """Such a journal was written by a certctl that repaired in place."""
    live, conf_dir = places
    home = live / "a.test"
    (home / "1").mkdir(parents=True)
    (home / "current").symlink_to("1")
    journal = json.dumps({"saved": [], "created": [str(home / "1"), str(home)]})
    (conf_dir / ".undo.json").write_text(journal)
    assert Rollback(live, live.with_name("sites"), conf_dir).recover()
    assert (home / "current").is_dir()
    assert list(conf_dir.iterdir()) == []


def test_taking_back_may_stop_anywhere_and_begin_again(places: tuple[Path, Path]) -> None:
    live, conf_dir = places
    paths = [conf_dir / f"{number}.conf" for number in range(3)]
    for path in paths:
        path.write_text(path.name)
    undo = Rollback(live, live.with_name("sites"), conf_dir)
    undo.remember(paths)
    paths[0].unlink()
    saved = next(path for path in conf_dir.glob(".*.old") if path.read_text() == "0.conf")
    saved.rename(paths[0])  # as if killed after this rename
    paths[1].unlink()
    assert Rollback(live, live.with_name("sites"), conf_dir).recover()
    assert [path.read_text() for path in paths] == ["0.conf", "1.conf", "2.conf"]
    assert list(conf_dir.glob(".*")) == []


def test_a_journal_that_is_damaged_or_points_elsewhere_harms_nobody(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    live, conf_dir = places
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    (conf_dir / "theirs.conf").touch()
    for text in (
        "",
        "\0",
        "[]",
        '{"saved": 3}',
        f'{{"saved": [["{outside}", null]], "created": ["{outside}"]}}',
        f'{{"saved": [["{live}/../outside", null]], "created": ["{live}/../outside"]}}',
        f'{{"saved": [["{live}/a", "{conf_dir}/theirs.conf"]], "created": []}}',
    ):
        for name, is_half_made in ((".undo.json", True), (".kept.json", False)):
            (conf_dir / name).write_text(text)
            assert Rollback(live, live.with_name("sites"), conf_dir).recover() is is_half_made
            assert outside.read_text() == "theirs"
            assert [path.name for path in conf_dir.iterdir()] == ["theirs.conf"]


def test_only_temporary_names_of_ours_are_swept(places: tuple[Path, Path]) -> None:
    live, conf_dir = places
    ours = [conf_dir / f".{'0' * 16}.tmp", conf_dir / f".{'f' * 16}.old", live / f".{'a' * 16}.tmp"]
    theirs = [conf_dir / ".vimrc.tmp", conf_dir / "notes.old", conf_dir / ".site.conf.swp"]
    for path in (*ours, *theirs):
        path.touch()
    Rollback(live, live.with_name("sites"), conf_dir).recover()
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in theirs)


def test_ctrl_c_waits_until_the_block_has_ended() -> None:
    steps: list[str] = []

    def walk_back() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            steps.append("finished")

    with pytest.raises(KeyboardInterrupt):
        walk_back()
    assert steps == ["finished"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_waited_is_not_lost(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda arrived, _: heard.append(arrived))
    try:
        with undisturbed():
            signal.raise_signal(number)
            assert heard == []
    finally:
        signal.signal(number, before)
    assert heard == [number]


def test_other_threads_need_no_shield() -> None:
    steps: list[str] = []

    def walk_back() -> None:
        with undisturbed():
            steps.append("finished")

    thread = threading.Thread(target=walk_back)
    thread.start()
    thread.join()
    assert steps == ["finished"]
