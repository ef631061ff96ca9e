"""Run certbot once in its working directory, with a deadline, and return how it ended."""

import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from importlib import metadata
from pathlib import Path

from certctl.ca.engines.certbot.log import read_log, read_result
from certctl.ca.engines.certbot.plugin_socket import DESCRIPTOR, PluginSocket
from certctl.ca.settings import CaSettings
from certctl.ca.transcript import End, EngineResult
from certctl.ca.workdir import WorkingDirectory
from certctl.errors import ConfigInvalid
from certctl.io import process
from certctl.io.interrupt import nap, raise_if_stopping
from certctl.slugs import Slug

OLDEST = (5, 8)
PLUGIN = "certctl"
_TRIES = 3
INSTALL = f"{sys.executable} -m pip install --force-reinstall --no-deps 'certbot>=5.8,<6'"


def run_certbot(
    argv: Sequence[str],
    settings: CaSettings,
    workdir: WorkingDirectory,
    lock: int,
    plugin_socket: PluginSocket | None = None,
) -> EngineResult:
    """Run certbot to its end or to the deadline, solving its challenges over the plugin's socket.

    certbot runs as the owner of certctl's state, because it follows links and reads options in there.

    Args:
        argv: From ``certctl.ca.engines.certbot.argv``.
        settings: Name the deadline and the ``ca_file`` of a private CA.
        workdir: The working directory; certbot writes nowhere else but to the shared account.
        lock: The descriptor of a lock that certbot inherits, so that it stays held if we are killed.
        plugin_socket: Our end of the socket to the authenticator plugin; None when no challenge is solved.

    Raises:
        ConfigInvalid: ``missing-program``.
        Interrupted: this process was asked to stop before.
    """
    raise_if_stopping("before certbot was started")
    until = time.monotonic() + settings.deadline.total_seconds()
    ours, theirs = socket.socketpair()
    env = _environment(settings, workdir) | {DESCRIPTOR: str(theirs.fileno())}
    with closing(ours), closing(theirs), tempfile.TemporaryFile() as captured:
        try:
            keep_open = (theirs.fileno(), lock)
            with process.running(argv, env=env, keep_open=keep_open, output=captured) as child:
                theirs.close()
                if plugin_socket:
                    plugin_socket.serve(ours, until)
                code = process.wait(child, timedelta(seconds=until - time.monotonic()))
        except process.Missing as error:
            raise _missing(f"certbot cannot be run: {argv[0]}") from error
        failed, aborted = (tuple(plugin_socket.failed), plugin_socket.aborted) if plugin_socket else ((), None)
        return read_result(
            code, process.read_output(captured), read_log(workdir.log), failed=failed, aborted=aborted
        )


def retry_bad_nonce(run: Callable[[], EngineResult]) -> EngineResult:
    """Return what ``run`` returns, and run again when the CA answered ``badNonce``: acme 5.9 tries only twice."""
    found = run()
    for _ in range(_TRIES - 1):
        if found.end is End.SUCCESS or not found.is_about("badNonce"):
            break
        nap(random.uniform(0.1, 1.0), "before certbot was started again")  # noqa: S311 - jitter
        found = run()
    return found


def find_certbot(settings: CaSettings) -> Path:
    """Return the path of certbot: the configured one, or the one installed beside our interpreter.

    A distribution's certbot (Debian 12 has 2.1) lacks the options we need, and cannot see our plugin.

    Raises:
        ConfigInvalid: ``missing-program``, it is not there or too old.
    """
    program = settings.certbot or process.beside_python("certbot")
    found = version_of(settings, program)
    if found < OLDEST:
        raise _missing(f"{program} is certbot {'.'.join(map(str, found))}", "certbot 5.8 or newer")
    return program


def version_of(settings: CaSettings, program: Path) -> tuple[int, ...]:
    """Return certbot's version, such as (5, 8, 0), from its package's metadata: 200 times faster than running it.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    try:
        text = metadata.version("certbot") if settings.certbot is None else _ask_version(program)
    except (process.Missing, metadata.PackageNotFoundError) as error:
        raise _missing(f"certbot is not installed: {program}") from error
    return tuple(int(part) for part in text.split(".")[:3] if part.isdecimal())


def has_our_plugin(settings: CaSettings) -> bool:
    """Tell whether certbot finds our authenticator, by the entry points ``certbot.plugins`` that it reads.

    certbot is not run for that: it would need directories of its own.
    """
    places = None if settings.certbot is None else list(_packages_of(settings.certbot))
    found = metadata.distributions() if places is None else metadata.distributions(path=places)
    return any((e.group, e.name) == ("certbot.plugins", PLUGIN) for each in found for e in each.entry_points)


def _packages_of(program: Path) -> Iterator[str]:
    """Yield the directories in which the Python of an installed script keeps its packages (PEP 405)."""
    for place in program.resolve().parent.parent.glob("lib/python3*/*-packages"):
        yield str(place)


def _ask_version(program: Path) -> str:
    words = process.run([str(program), "--version"], deadline=timedelta(seconds=20)).output.split()
    return next((word for word in words if word[:1].isdecimal()), "0")


def _missing(message: str, *expected: str) -> ConfigInvalid:
    return ConfigInvalid(Slug.MISSING_PROGRAM, message, expected=expected, next=[INSTALL])


def _environment(settings: CaSettings, workdir: WorkingDirectory) -> dict[str, str]:
    """Return certbot's environment: no user's ``cli.ini``, no ``/tmp``, a private CA's root where configured."""
    trust = {"REQUESTS_CA_BUNDLE": str(settings.ca_file)} if settings.ca_file else {}
    return {"XDG_CONFIG_HOME": str(workdir.config), "TMPDIR": str(workdir.work)} | trust
