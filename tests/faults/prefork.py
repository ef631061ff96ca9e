"""Run certctl's command line again and again, each time in a fork of a process that has loaded all of it.

A test that looks at two hundred runs cannot pay for two hundred starts of Python. Reads a line of JSON, a list of
arguments, and answers with the exit code and what was said.
"""

import importlib
import json
import os
import pkgutil
import sys
import tempfile

import certctl
from certctl.cli import main


def serve() -> None:
    """Answer until there are no more questions."""
    for module in pkgutil.walk_packages(certctl.__path__, "certctl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    questions, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    for line in questions:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            pid = os.fork()
            if not pid:
                _be_certctl(json.loads(line), out.fileno(), err.fileno())
            _, status = os.waitpid(pid, 0)
            said = [_read(file.fileno()) for file in (out, err)]
        answers.write(json.dumps([os.waitstatus_to_exitcode(status), *said]) + "\n")
        answers.flush()


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 10_000_000, 0).decode("utf-8", "replace")


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
