"""The way back: byte for byte, as often as needed, and not to be interrupted."""

import signal
import threading
from pathlib import Path

import pytest

from certctl.nginx.undo import Undo, undisturbed


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
    undo = Undo(live, live.with_name("sites"), conf_dir)
    made = live / "made"
    made.mkdir()
    undo.created(made)
    for path in (kept, new, link):
        undo.remember(path)
    undo.write_journal()
    kept.unlink()
    kept.write_text("new")
    new.write_text("new")
    link.unlink()
    link.symlink_to("2")

    assert Undo(live, live.with_name("sites"), conf_dir).recover()
    assert kept.read_text() == "old"
    assert str(link.readlink()) == "1"
    assert {path.name for path in (*live.iterdir(), *conf_dir.iterdir())} == {"kept.conf", "current"}
    assert not Undo(live, live.with_name("sites"), conf_dir).recover()


def test_taking_back_may_stop_anywhere_and_begin_again(places: tuple[Path, Path]) -> None:
    live, conf_dir = places
    paths = [conf_dir / f"{number}.conf" for number in range(3)]
    for path in paths:
        path.write_text(path.name)
    undo = Undo(live, live.with_name("sites"), conf_dir)
    for path in paths:
        undo.remember(path)
    undo.write_journal()
    paths[0].unlink()
    saved = next(path for path in conf_dir.glob(".*.old") if path.read_text() == "0.conf")
    saved.rename(paths[0])  # as if killed after this rename
    paths[1].unlink()
    assert Undo(live, live.with_name("sites"), conf_dir).recover()
    assert [path.read_text() for path in paths] == ["0.conf", "1.conf", "2.conf"]
    assert list(conf_dir.glob(".*")) == []


def test_a_journal_that_is_damaged_or_points_elsewhere_harms_nobody(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    live, conf_dir = places
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    for text in (
        "",
        "\0",
        "[]",
        '{"saved": 3}',
        f'{{"saved": [["{outside}", null]], "created": ["{outside}"]}}',
        f'{{"saved": [["{live}/../outside", null]], "created": ["{live}/../outside"]}}',
    ):
        (conf_dir / ".undo.json").write_text(text)
        assert Undo(live, live.with_name("sites"), conf_dir).recover()
        assert outside.read_text() == "theirs"
        assert not (conf_dir / ".undo.json").exists()


def test_only_temporary_names_of_ours_are_swept(places: tuple[Path, Path]) -> None:
    live, conf_dir = places
    ours = [conf_dir / f".{'0' * 16}.tmp", conf_dir / f".{'f' * 16}.old", live / f".{'a' * 16}.tmp"]
    theirs = [conf_dir / ".vimrc.tmp", conf_dir / "notes.old", conf_dir / ".site.conf.swp"]
    for path in (*ours, *theirs):
        path.touch()
    Undo(live, live.with_name("sites"), conf_dir).recover()
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


def test_other_threads_need_no_shield() -> None:
    steps: list[str] = []

    def walk_back() -> None:
        with undisturbed():
            steps.append("finished")

    thread = threading.Thread(target=walk_back)
    thread.start()
    thread.join()
    assert steps == ["finished"]
