"""The checks of ``certctl doctor`` for systemd units and cron: whether they fit, and whether certbot renews too."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from certctl.app.context import Context
from certctl.app.scheduler import host_settings, is_booted, is_scheduled, lacks_cron, lineage_names, open_systemd
from certctl.io.fsuid import as_root
from certctl.timer.assign import assignments
from certctl.timer.certbot_timer import CertbotTimer, contested, remedies, rivals
from certctl.timer.files import Condition, HostFile
from certctl.timer.units import RENEWING, SERVE, SERVICE, SERVING, UnitSettings, systemd_files
from certctl.values import Finding, Level

_AREA = "timer"
_LISTED = 3
# What decides whether a run succeeds; the rest is order and hardening.
_DECISIVE = (
    "ExecStart", "ExecStartPre", "ReadWritePaths", "ProtectHome", "CapabilityBoundingSet",
    "ListenStream", "ListenDatagram", "SocketGroup",
)  # fmt: skip

Wanted = Callable[[UnitSettings], Sequence[HostFile]]


def examine_timer(context: Context, ours: set[str]) -> Iterator[Finding]:
    """Check that a timer or cron runs the renewals, and that certbot does not renew the same names."""
    root = context.path("/")
    with as_root():
        found = rivals(root, open_systemd(context))
        theirs = lineage_names(root) if found else {}
    shared = contested(theirs, ours)
    yield from (_rival(rival, shared, theirs) for rival in found)
    if not is_scheduled(context):
        if root == Path("/"):
            text = "nothing on this host runs certctl renew by itself"
            yield Finding(_AREA, Level.WARNING, text, "certctl timer install")
        return
    if lacks_cron(context):
        text = "no cron is installed, so nothing runs certctl's cron line"
        yield Finding(_AREA, Level.WARNING, text, "apt-get install cron")
        return
    unfit = [*examine_units(context, SERVICE, systemd_files)] if is_booted(context) else []
    yield from unfit or [Finding(_AREA, Level.OK, "certctl renew runs by itself")]


def examine_units(context: Context, service: str, wanted: Wanted) -> Iterator[Finding]:
    """Compare the installed units with what this certctl would write, for the program and options they run.

    Without root nginx's whole configuration cannot be read, and what depends on it is not compared.
    """
    path = context.path(f"/etc/systemd/system/{service}")
    if not path.is_file() or (os.geteuid() != 0 and context.path("/") == Path("/")):
        return
    area, purpose = ("serve", SERVING) if service == SERVE else (_AREA, RENEWING)
    with as_root():
        [command] = assignments(path.read_text("utf-8", "replace")).get("ExecStart", [])[-1:] or ["nothing serve"]
        program, *options = command.split()
        if not os.access(program, os.X_OK):
            text = f"{service} runs {program}, which is not there"
            yield Finding(area, Level.PROBLEM, text, purpose.install)
            return
        files = wanted(host_settings(context, Path(program), tuple(options[:-1])))
    yield from (_misfit(file, area) for file in files if file.condition is Condition.OUTDATED)


def _misfit(file: HostFile, area: str) -> Finding:
    there, wanted = assignments(file.found), assignments(file.text)
    differing = [key for key in _DECISIVE if there.get(key) != wanted.get(key)]
    if differing:
        text = f"{file.path.name} no longer fits this host ({', '.join(differing)})"
        return Finding(area, Level.PROBLEM, text, file.purpose.install)
    return Finding(area, Level.WARNING, f"{file.path.name} is another version's", file.purpose.install)


def _rival(
    rival: CertbotTimer, shared: Mapping[str, Sequence[str]], theirs: Mapping[str, Collection[str]]
) -> Finding:
    """Return a finding about a certbot timer, with the commands that stop it renewing certctl's names."""
    if not shared:
        return Finding(_AREA, Level.OK, f"{rival.name} is {rival.how}, and renews nothing that certctl does")
    names = sorted({name for each in shared.values() for name in each})
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    text = f"{rival.name} is {rival.how}: it renews {', '.join(names[:_LISTED])}{more} beside certctl"
    return Finding(_AREA, Level.WARNING, text, remedies([rival], shared, theirs)[0])
