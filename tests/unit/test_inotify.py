"""Who reads our files: the kernel's own word, on real files."""

import threading
from pathlib import Path

import pytest

from certctl.io.inotify import Readers

QUIET = 0.01
LONG = 120.0
FOR_EVER = 1_000_000.0


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    for name in ("one", "two", "other"):
        (tmp_path / name).write_text(name)
    return Readers(tmp_path)


def read(
    path: Path, *, times: int = 1, apart: float = 0.0, over: threading.Event | None = None
) -> threading.Thread:
    ended = over or threading.Event()

    def go() -> None:
        for _ in range(times):
            if ended.wait(apart):
                return
            path.read_text()

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_a_file_that_was_read_is_noticed_soon(readers: Readers, tmp_path: Path) -> None:
    with readers.of(["one"]) as look:
        read(tmp_path / "one")
        assert look(LONG, QUIET)


def test_all_of_them_must_have_been_read(readers: Readers, tmp_path: Path) -> None:
    with readers.of(["one", "two"]) as look:
        (tmp_path / "one").read_text()
        (tmp_path / "other").read_text()
        assert not look(0.2, QUIET)
        (tmp_path / "two").read_text()
        assert look(LONG, QUIET)


def test_writing_a_file_is_not_reading_it(readers: Readers, tmp_path: Path) -> None:
    with readers.of(["one", "new"]) as look:
        (tmp_path / "one").write_text("again")
        (tmp_path / "new").write_text("new")
        assert not look(0.2, QUIET)


def test_what_was_read_before_does_not_count(readers: Readers, tmp_path: Path) -> None:
    (tmp_path / "one").read_text()
    with readers.of(["one"]) as look:
        (tmp_path / "one").read_text()
        assert look(LONG, QUIET)
    with readers.of(["one"]) as look:
        assert not look(0.2, QUIET)


def test_it_waits_until_the_last_of_several_readers(readers: Readers, tmp_path: Path) -> None:
    with readers.of(["one"]) as look:
        reading = read(tmp_path / "one", times=5, apart=0.05)
        assert look(LONG, 1.5)
        assert not reading.is_alive()


def test_readers_who_never_stop_are_not_waited_for_for_ever(readers: Readers, tmp_path: Path) -> None:
    with readers.of(["one"]) as look:
        over = threading.Event()
        reading = read(tmp_path / "one", times=1_000_000, apart=0.01, over=over)
        assert look(0.1, LONG)
        assert reading.is_alive()
        over.set()


def test_two_may_wait_for_the_same_file(readers: Readers, tmp_path: Path) -> None:
    with readers.of(["one"]) as one, readers.of(["one"]) as two:
        (tmp_path / "one").read_text()
        assert one(10, QUIET)
        assert two(10, QUIET)


def test_a_directory_that_is_not_there_is_never_waited_for(tmp_path: Path) -> None:
    with Readers(tmp_path / "none").of(["one"]) as look:
        assert not look(FOR_EVER, QUIET)
