"""Run certctl's command line again and again, each time in a fork of a process that has loaded all of it.

A test that looks at two hundred runs cannot pay for two hundred starts of Python. Reads a line of JSON, a list of
commands, runs them side by side, and answers with the exit code of each and what it said.
"""

import importlib
import json
import os
import pkgutil
import sys
import tempfile
from typing import IO

import certctl
from certctl.cli import main

BegunOrder = tuple[int, IO[bytes], IO[bytes]]


def serve() -> None:
    """Answer until there are no more questions."""
    for module in pkgutil.walk_packages(certctl.__path__, "certctl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for line in sys.stdin:
        begun = [_begin(command) for command in json.loads(line)]
        print(json.dumps([_ended(*each) for each in begun]), flush=True)


def _begin(command: list[str]) -> BegunOrder:
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - ``_ended`` closes them
    pid = os.fork()
    if not pid:
        _be_certctl(command, out.fileno(), err.fileno())
    return pid, out, err


def _ended(pid: int, out: IO[bytes], err: IO[bytes]) -> tuple[int, str, str]:
    _, status = os.waitpid(pid, 0)
    said = []
    for file in (out, err):
        with file:
            file.seek(0)
            said.append(file.read().decode("utf-8", "replace"))
    return os.waitstatus_to_exitcode(status), said[0], said[1]


def _be_certctl(arguments: list[str], out: int, err: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((null, out, err)):
        os.dup2(descriptor, number)
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    serve()
