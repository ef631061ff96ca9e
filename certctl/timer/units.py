"""The text of the units of timer and daemon on this host, and of the line for cron.

The text is in ``systemd/`` (one copy, shipped with the package). Each file there is valid as it stands; only the
program's path and what differs from a default host is filled in, assignment by assignment (decision 0020).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.timer.assign import filled, replaced
from certctl.timer.files import HostFile, Purpose

SERVICE, TIMER, ALERT = "certctl-renew.service", "certctl-renew.timer", "certctl-alert@.service"
SERVE, SOCKET = "certctl-serve.service", "certctl-serve.socket"
RENEWING = Purpose(
    install="certctl timer install",
    remove="certctl timer remove",
    failed=Slug.TIMER_FAILED,
    conflict=Slug.TIMER_CONFLICT,
    starts=(TIMER,),
    rereads=(SERVICE,),
)
SERVING = Purpose(
    install="certctl serve --install",
    remove="certctl serve --uninstall",
    failed=Slug.SERVE_FAILED,
    conflict=Slug.SERVE_FAILED,
    starts=(SOCKET, SERVE),
    restarts=(SOCKET, SERVE),
)

_CRON = "certctl.cron"
_PROGRAM = "/usr/local/bin/certctl"
_CONF_DIR = "/etc/nginx/certctl.d"
_SERVE_SOCKET, _MISS_SOCKET = "/run/certctl/serve.sock", "/run/certctl/miss.sock"
_NGINX = "nginx.service"
_NGINX_WRITES = "-/run -/var/lib/nginx -/var/log/nginx"
_ROOTS = "root -g root"
_MONITORS_RIGHTS = "CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID"
_TO_BECOME_SOMEBODY = "CAP_CHOWN CAP_SETGID CAP_SETUID"
_TO_TEST_NGINX = "CAP_DAC_OVERRIDE CAP_NET_BIND_SERVICE"
_TO_WORK_AS_OWNER = f"{_TO_TEST_NGINX} CAP_SETGID CAP_SETUID"  # decision 0016
_HIDDEN_BY_PROTECT_HOME = ("/home", "/root", "/run/user")
_HIDDEN_BY_PRIVATE_TMP = ("/tmp", "/var/tmp")  # noqa: S108 - nothing is written there
_PLAIN = re.compile(r"/[A-Za-z0-9._/@+~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """The settings that the files are filled in with.

    Attributes:
        root: The directory that the files themselves are written below; ``/`` on a real host.
        program: The certctl to run.
        options: Global options it is run with, such as ``--config FILE``.
        needs: Files and directories that the program must be able to read, such as its interpreter.
        conf_dir: The include directory the service may write to.
        writable: More that it must be able to write, besides certctl's own directories.
        nginx_writes: Where ``nginx -t`` creates files; None where that is not known, which means Debian's.
        nginx_unit: The unit that runs nginx.
        owner: The user and group who own certctl's state, where the daemon gives up root's rights; None is root.
        socket: Where nginx reaches the daemon.
        socket_group: The group of nginx's workers.
    """

    root: Path
    program: Path
    options: tuple[str, ...] = ()
    needs: tuple[Path, ...] = ()
    conf_dir: Path = Path(_CONF_DIR)
    writable: tuple[Path, ...] = ()
    nginx_writes: tuple[Path, ...] | None = None
    nginx_unit: str = _NGINX
    owner: tuple[str, str] | None = None
    socket: Path = Path(_SERVE_SOCKET)
    socket_group: str = "www-data"


def systemd_files(settings: UnitSettings) -> list[HostFile]:
    """Return the units of the timer, the timer itself last: it completes an installation.

    Raises:
        ConfigInvalid: ``timer-failed``: a path cannot be written into a unit, or the unit could not read it.
    """
    home = settings.root / "etc/systemd/system"
    renewal = _service(SERVICE, settings, RENEWING)
    if settings.owner:
        renewal = replaced(renewal, "CapabilityBoundingSet", _TO_TEST_NGINX, _TO_WORK_AS_OWNER)
    return [
        HostFile(home / ALERT, _shipped(ALERT), RENEWING, sample=True),
        HostFile(home / SERVICE, renewal, RENEWING),
        HostFile(home / TIMER, _shipped(TIMER), RENEWING),
    ]


def serve_files(settings: UnitSettings) -> list[HostFile]:
    """Return the daemon's units, the socket last.

    Raises:
        ConfigInvalid: ``serve-failed``, as above.
    """
    home = settings.root / "etc/systemd/system"
    service = _service(SERVE, settings, SERVING)
    if settings.owner:
        service = replaced(service, "CapabilityBoundingSet", _MONITORS_RIGHTS, _TO_BECOME_SOMEBODY)
    socket = replaced(_shipped(SOCKET), "ListenStream", _SERVE_SOCKET, _plain(settings.socket, SERVING))
    socket = replaced(socket, "ListenDatagram", _MISS_SOCKET, str(settings.socket.with_name("miss.sock")))
    socket = replaced(socket, "SocketGroup", "www-data", settings.socket_group)
    return [HostFile(home / SERVE, service, SERVING), HostFile(home / SOCKET, socket, SERVING)]


def cron_files(settings: UnitSettings) -> list[HostFile]:
    """Return the file with the line for cron; its name has no dot, or cron would ignore it (cron(8), Debian).

    Raises:
        ConfigInvalid: ``timer-failed``: a path cannot be written into it.
    """
    text = filled(_shipped(_CRON), _PROGRAM, _command(settings, RENEWING))
    return [HostFile(settings.root / "etc/cron.d/certctl", text, RENEWING)]


def below(path: Path, places: Iterable[str]) -> bool:
    """Tell whether a path or what it links to is in one of some directories."""
    return any(form.is_relative_to(place) for place in places for form in (path, path.resolve()))


def hidden_home(settings: UnitSettings) -> bool:
    """Tell whether a path the service needs is where ``ProtectHome=yes`` would hide it (systemd.exec(5))."""
    needed = (settings.program, *settings.needs, *(settings.nginx_writes or ()))
    return any(below(path, _HIDDEN_BY_PROTECT_HOME) for path in needed)


def _service(name: str, settings: UnitSettings, purpose: Purpose) -> str:
    for path in (settings.program, *settings.needs):
        if settings.root == Path("/") and below(path, _HIDDEN_BY_PRIVATE_TMP):
            raise ConfigInvalid(
                purpose.failed,
                f"{path} is in a directory for temporary files, which the service cannot see",
                expected=["certctl and its configuration in a place that lasts, such as /opt and /etc"],
            )
    text = replaced(_shipped(name), "ExecStart", _PROGRAM, _command(settings, purpose))
    text = replaced(text, "After", _NGINX, settings.nginx_unit)
    writable = _writable((settings.conf_dir, *settings.writable), purpose)
    text = replaced(text, "ReadWritePaths", f"-{_CONF_DIR}", writable)
    text = replaced(text, "ReadWritePaths", _NGINX_WRITES, _nginx_writes(name, settings, purpose))
    if hidden_home(settings):
        text = replaced(text, "ProtectHome", "yes", "read-only")
    return replaced(text, "ExecStartPre", _ROOTS, "{} -g {}".format(*settings.owner)) if settings.owner else text


def _nginx_writes(name: str, settings: UnitSettings, purpose: Purpose) -> str:
    """Return the paths ``nginx -t`` writes to, for ``ReadWritePaths=``; none for a daemon that never runs it."""
    if name == SERVE and settings.owner:
        return ""
    return _NGINX_WRITES if settings.nginx_writes is None else _writable(settings.nginx_writes, purpose)


def _writable(paths: Iterable[Path], purpose: Purpose) -> str:
    return " ".join(f"-{_plain(path, purpose)}" for path in paths)


def _command(settings: UnitSettings, purpose: Purpose) -> str:
    words: Sequence[str] = (str(settings.program), *settings.options)
    return " ".join(word if word.startswith("--") else _plain(Path(word), purpose) for word in words)


def _plain(path: Path, purpose: Purpose) -> str:
    """Return a path that means the same to systemd, cron and a shell.

    Raises:
        ConfigInvalid: ``….failed``. Quoting is not tried: ``%``, ``$`` and spaces mean something else to each.
    """
    if not _PLAIN.fullmatch(str(path)) or ".." in path.parts:
        raise ConfigInvalid(
            purpose.failed,
            f"{path} cannot be written into a unit or a cron line",
            expected=["an absolute path of letters, digits and . _ / @ + ~ -"],
        )
    return str(path)


def _shipped(name: str) -> str:
    return files("certctl").joinpath("systemd", name).read_text(encoding="utf-8")
