"""Make the standard streams safe: they may be closed, a full disk, or a pipe without a reader."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TextIO


class QuietStdout(io.TextIOWrapper):
    """A stdout that ignores a broken pipe (``certctl status | head -1``): the run keeps its exit code."""

    ignored: ClassVar[type[OSError]] = BrokenPipeError

    def write(self, text: str) -> int:
        """Write the text; its length is returned also when it was dropped."""
        with suppress(self.ignored):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, and ignore the same error."""
        with suppress(self.ignored):
            super().flush()


class QuietStderr(QuietStdout):
    """A stderr that ignores every OSError: progress that cannot be written must not stop the work."""

    ignored = OSError


def prepare() -> None:
    """Open the standard streams that are closed, and replace stdout and stderr by ones that ignore write errors.

    The descriptor of a closed stream would go to the next file that is opened, such as the store, and whatever a
    child prints would end up there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we run
    sys.stdout, sys.stderr = _over(sys.stdout, QuietStdout), _over(sys.stderr, QuietStderr)


def release() -> None:
    """Redirect a stdout that cannot be flushed to /dev/null, or Python would exit with 120 after a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _over(stream: TextIO, kind: type[QuietStdout]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, errors, by_line = stream.encoding, stream.errors, stream.line_buffering
    return kind(stream.detach(), encoding, errors, line_buffering=by_line)
