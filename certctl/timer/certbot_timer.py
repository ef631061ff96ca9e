"""Find certbot's own timers: two renewers of one name spend the CA's limits twice."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.timer.systemd import Systemd

# Debian and upstream; Fedora and EPEL; the snap.
_TIMERS = ("certbot.timer", "certbot-renew.timer", "snap.certbot.renew.timer")
_CRON = "etc/cron.d/certbot"
_CERTIFICATE = re.compile(r"^\s*cert\s*=\s*(/\S+)\s*$", re.MULTILINE)
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_MAX_BYTES = 1_000_000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class CertbotTimer:
    """A timer or cron line that runs ``certbot renew``, and the command that stops it."""

    name: str
    how: str
    stop: str


def rivals(root: Path, systemd: Systemd | None) -> list[CertbotTimer]:
    """Return the timers and cron lines that run ``certbot renew`` on this host."""
    found = [
        CertbotTimer(timer, how, f"systemctl disable --now {timer}")
        for timer in _TIMERS
        if (how := _liveliness(timer, root, systemd))
    ]
    if _cron_works(root):
        found.append(CertbotTimer(f"/{_CRON}", "in force", f"mv /{_CRON} /{_CRON}.disabled"))
    return found


def refuse_rivals(
    found: Collection[CertbotTimer], theirs: Mapping[str, Collection[str]], ours: Collection[str]
) -> None:
    """Refuse to go on when certbot renews names that certctl has too.

    Args:
        found: The timers and cron lines.
        theirs: The names of each of certbot's lineages.
        ours: Every name certctl has.

    Raises:
        ConfigInvalid: ``timer-conflict``.
    """
    shared = contested(theirs, ours)
    if not found or not shared:
        return
    listed = list(shared.items())[:_SHOWN]
    more = [f"and {len(shared) - _SHOWN} lineages more"] if len(shared) > _SHOWN else []
    raise ConfigInvalid(
        Slug.TIMER_CONFLICT,
        f"{' and '.join(r.name for r in found)} would renew what certctl renews",
        seen=[
            *(f"{rival.name} is {rival.how}" for rival in found),
            *(f"certbot's lineage {lineage} has {', '.join(names[:_SHOWN])}" for lineage, names in listed),
            *more,
        ],
        expected=["one renewer for each name: stop certbot's timer, or delete the lineages certctl took over"],
        next=[*remedies(found, shared, theirs), "certctl timer install"],
    )


def contested(theirs: Mapping[str, Collection[str]], ours: Collection[str]) -> dict[str, list[str]]:
    """Return, by certbot lineage, the names in it that certctl has too; only lineages with such names."""
    both = {lineage: sorted(set(names) & set(ours)) for lineage, names in theirs.items()}
    return {lineage: names for lineage, names in both.items() if names}


def remedies(
    found: Collection[CertbotTimer], shared: Mapping[str, Sequence[str]], theirs: Mapping[str, Collection[str]]
) -> list[str]:
    """Return the commands that leave one renewer for each name.

    Certbot is stopped only where it has nothing else to renew, and a lineage is deleted only when all of its names
    are ours: another name would expire without notice.
    """
    own = {lineage: sorted(set(names) - set(shared.get(lineage, ()))) for lineage, names in theirs.items()}
    stops = [] if any(own.values()) else [rival.stop for rival in found]
    settled = [_without_ours(lineage, own.get(lineage, [])) for lineage in [*shared][:_SHOWN]]
    return [*stops, *filter(None, settled)]


def _without_ours(lineage: str, own: Sequence[str]) -> str:
    """Return the certbot command that takes our names from a lineage; empty when it would need shell quoting."""
    if not all(map(_SAFE_NAME.fullmatch, (lineage, *own))):
        return ""
    if not own:
        return f"certbot delete --cert-name {lineage}"
    return f"certbot certonly --cert-name {lineage} --renew-with-new-domains -d {','.join(own)}"


def lineages(root: Path) -> dict[str, Path]:
    """Return the certificate of each of certbot's lineages; certbot's directory is only ever read."""
    found = {}
    for conf in sorted((root / "etc/letsencrypt/renewal").glob("*.conf")):
        with suppress(OSError):
            named = _CERTIFICATE.search(conf.read_bytes()[:_MAX_BYTES].decode("utf-8", "replace"))
            path = named[1] if named else f"/etc/letsencrypt/live/{conf.stem}/cert.pem"
            found[conf.stem] = root / path.lstrip("/")
    return found


def _liveliness(timer: str, root: Path, systemd: Systemd | None) -> str:
    """Return in words how a timer is active: now, or from the next boot; empty when it is not."""
    if systemd and systemd.is_active(timer):
        return "active"
    links = (wants / timer for wants in (root / "etc/systemd/system").glob("*.wants"))
    return "enabled" if any(link.is_symlink() for link in links) else ""


def _cron_works(root: Path) -> bool:
    """Tell whether certbot's cron line runs: Debian's does nothing where systemd runs (certbot 2.1.0-4)."""
    try:
        lines = (root / _CRON).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    booted = (root / "run/systemd/system").is_dir()
    commands = [line for line in lines if "certbot" in line and not line.lstrip().startswith("#")]
    return any(not (booted and "/run/systemd/system" in line) for line in commands)
