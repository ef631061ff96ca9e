"""The nginx program: its test, version, build, and the whole configuration (``-t``, ``-v``, ``-V``, ``-T``)."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from certctl.errors import WebServerFailed
from certctl.io.process import Finished, Missing, find, run, running, wait
from certctl.nginx.mainconf import ConfigLine
from certctl.nginx.serverblock import Version
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug

_WHY_ROOT = "nginx opens its own logs, pid file, ports and every key, as root's master does"
_LINE = re.compile(r"^.*?\[(warn|error|crit|alert|emerg)\] (?:\d+#\d+: )?(.*)$", re.MULTILINE)
_CONFLICT = re.compile(r'conflicting server name "([^"]*)" on \S+, ignored')
_WHERE = re.compile(r" in (\S.*):(\d+)$")
_DUMPED = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_DEFAULT_SERVER = re.compile(r"\blisten\b[^;#\n]*\bdefault_server\b")

# What the user, the sandbox of a systemd unit or a full disk does to ``nginx -t`` (measured, nginx 1.22.1):
# EPERM, EACCES, ENFILE, EMFILE, ENOSPC, EROFS. It says nothing about the configuration.
_ENVIRONMENT = re.compile(r"(?:open|bind|chown|mkdir|socket)\(.*failed \((?:1|13|23|24|28|30): |Permission denied")


@dataclass(frozen=True, slots=True)
class ConfigTest:
    """The result of ``nginx -t``.

    Attributes:
        faults: The ``[emerg]`` and other fatal lines; without any, the last lines of a failed test.
        conflicts: Names of ``[warn] conflicting server name``, which nginx does not count as a failure.
    """

    ok: bool
    faults: tuple[str, ...] = ()
    conflicts: frozenset[str] = frozenset()
    timed_out: bool = False

    @property
    def fault(self) -> str:
        """Return the line that names the cause."""
        return self.faults[0] if self.faults else "nginx gave no reason"

    @property
    def where(self) -> ConfigLine | None:
        """Return the configuration line of the fault; None when nginx names none."""
        found = _WHERE.search(self.fault)
        return ConfigLine(found[1], int(found[2])) if found else None

    @property
    def is_environment(self) -> bool:
        """Tell whether nginx could not test here, rather than refused the configuration."""
        return _ENVIRONMENT.search(self.fault) is not None


class NginxCommand:
    """Runs the nginx program; never as a daemon, never with ``-s``."""

    def __init__(self, settings: NginxSettings) -> None:
        self._settings = settings

    def test(self) -> ConfigTest:
        """Return the result of ``nginx -t`` for the whole configuration.

        nginx's own test also opens logs and the pid file and binds the ports (nginx 1.22.1).

        Raises:
            WebServerFailed: ``nginx-missing``.
        """
        ended = self._run("-t", *self._where)
        return judge(ended)

    @cached_property
    def version(self) -> Version:
        """Return nginx's version, such as (1, 22, 1).

        Raises:
            WebServerFailed: ``nginx-missing``.
        """
        found = re.search(r"/(\d+)\.(\d+)\.(\d+)", self._run("-v").output)
        return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)

    @cached_property
    def build(self) -> str:
        """Return the configure arguments of the program (``nginx -V``), which have the default paths.

        Raises:
            WebServerFailed: ``nginx-missing``.
        """
        said, prefix = self._run("-V").output, self._settings.prefix
        return f"--prefix={prefix} {said}" if prefix else said  # the first one counts, as -p does

    def dump(self) -> str:
        """Return every configuration file nginx reads, each after a line with its name (``nginx -T``).

        nginx parses everything again for it, so it is for diagnosis only.
        """
        with self._runnable() as binary, tempfile.TemporaryFile() as captured:
            argv = [binary, "-T", *self._where]
            # run() keeps the last megabyte only
            with running(argv, root_because=_WHY_ROOT, output=captured) as child:
                wait(child, self._settings.test_deadline)
            captured.seek(0)
            return captured.read().decode("utf-8", "replace")

    @property
    def _where(self) -> tuple[str, ...]:
        prefix = self._settings.prefix
        at = ("-p", f"{prefix}/") if prefix else ()
        return (*at, "-c", str(self._settings.config), "-e", "stderr")

    def _run(self, *arguments: str) -> Finished:
        with self._runnable() as binary:
            return run([binary, *arguments], deadline=self._settings.test_deadline, root_because=_WHY_ROOT)

    @contextmanager
    def _runnable(self) -> Iterator[str]:
        try:
            yield find(self._settings.binary)
        except Missing as error:
            raise missing(self._settings.binary, error.elsewhere) from error


def missing(binary: str, elsewhere: str) -> WebServerFailed:
    """Return the error for an nginx that no service would find, with the path where a shell finds one."""
    if elsewhere:
        return WebServerFailed(
            Slug.NGINX_MISSING,
            f"{binary} is found on this shell's PATH alone, which no service has",
            seen=[elsewhere],
            next=[f'put binary = "{elsewhere}" into [nginx] of the configuration', "certctl config show"],
        )
    install = ["apt-get install nginx"] if "/" not in binary else []
    return WebServerFailed(Slug.NGINX_MISSING, f"{binary} cannot be run", next=[*install, "certctl config show"])


def judge(ended: Finished) -> ConfigTest:
    """Return the result of a finished ``nginx -t``, from its exit code and output."""
    lines = _LINE.findall(ended.output)
    conflicts = frozenset(_CONFLICT.findall(ended.output))
    if ended.ok:
        return ConfigTest(ok=True, conflicts=conflicts)
    faults = [text for level, text in lines if level == "emerg"] or [t for level, t in lines if level != "warn"]
    said = [line for line in ended.output.splitlines() if line.strip()][-3:]
    return ConfigTest(ok=False, faults=tuple(faults or said), conflicts=conflicts, timed_out=ended.code is None)


def lines_with_name(dump: str, name: str) -> list[ConfigLine]:
    """Return every ``server_name`` line that holds a name, from ``nginx -T``."""
    pieces = _DUMPED.split(dump)[1:]
    places = list[ConfigLine]()
    for file, text in zip(pieces[::2], pieces[1::2], strict=True):
        for number, line in enumerate(text.split("\n")):
            words = line.partition("#")[0].replace(";", " ").replace("{", " ").split()
            if "server_name" in words and name in (word.strip("\"'").lower() for word in words):
                places.append(ConfigLine(file, number))
    return list(dict.fromkeys(places))


def files_with_default_server(dump: str) -> list[str]:
    """Return the files with a ``default_server`` for some port, from ``nginx -T``."""
    pieces = _DUMPED.split(dump)[1:]
    return [file for file, text in zip(pieces[::2], pieces[1::2], strict=True) if _DEFAULT_SERVER.search(text)]
