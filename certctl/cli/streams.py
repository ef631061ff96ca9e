"""The standard streams as they may be found: closed, full, or read by somebody who has gone."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TextIO


class Unread(io.TextIOWrapper):
    """A stdout whose reader may have enough (``certctl status | head -1``): the run ends as it would."""

    forgiven: ClassVar[type[OSError]] = BrokenPipeError

    def write(self, text: str) -> int:
        """Write, or pretend to."""
        with suppress(self.forgiven):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or pretend to."""
        with suppress(self.forgiven):
            super().flush()


class Unheard(Unread):
    """A stderr that drops what cannot be said: progress nobody reads must not stop the work half-way."""

    forgiven = OSError


def prepare() -> None:
    """Open what was closed, and forgive those who do not listen.

    The descriptor of a closed stream would go to the next file that is opened, such as the store, and whatever a
    child prints would end up there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we run
    sys.stdout, sys.stderr = _over(sys.stdout, Unread), _over(sys.stderr, Unheard)


def release() -> None:
    """Let go of a stdout that takes nothing, or Python would complain and turn the exit code into 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _over(stream: TextIO, kind: type[Unread]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, errors, by_line = stream.encoding, stream.errors, stream.line_buffering
    return kind(stream.detach(), encoding, errors, line_buffering=by_line)
