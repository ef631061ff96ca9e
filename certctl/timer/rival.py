"""Another renewer of the same names: two of them spend the CA's limits twice and end with either's certificate."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.timer.systemd import Systemd

# Debian and upstream; Fedora and EPEL; the snap.
_TIMERS = ("certbot.timer", "certbot-renew.timer", "snap.certbot.renew.timer")
_CRON = "etc/cron.d/certbot"
_CERTIFICATE = re.compile(r"^\s*cert\s*=\s*(/\S+)\s*$", re.MULTILINE)
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_MAX_BYTES = 1_000_000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Rival:
    """Something that runs ``certbot renew`` by itself, and the command that stops it."""

    name: str
    how: str
    stop: str


def rivals(root: Path, systemd: Systemd | None) -> list[Rival]:
    """Return what renews with certbot on this host."""
    found = [
        Rival(timer, how, f"systemctl disable --now {timer}")
        for timer in _TIMERS
        if (how := _liveliness(timer, root, systemd))
    ]
    if _cron_works(root):
        found.append(Rival(f"/{_CRON}", "in force", f"mv /{_CRON} /{_CRON}.disabled"))
    return found


def refuse_rivals(found: Collection[Rival], root: Path, ours: Collection[str]) -> None:
    """Refuse when certbot renews names that certctl has, too.

    Raises:
        ConfigInvalid: ``timer-conflict``.
    """
    shared = {lineage: sorted(names & set(ours)) for lineage, names in lineages(root) if names & set(ours)}
    if not found or not shared:
        return
    listed = list(shared.items())[:_SHOWN]
    more = [f"and {len(shared) - _SHOWN} lineages more"] if len(shared) > _SHOWN else []
    raise ConfigInvalid(
        "timer-conflict",
        f"{' and '.join(r.name for r in found)} would renew what certctl renews",
        seen=[
            *(f"{rival.name} is {rival.how}" for rival in found),
            *(f"certbot's lineage {lineage} has {', '.join(names[:_SHOWN])}" for lineage, names in listed),
            *more,
        ],
        expected=["one renewer for each name: stop certbot's timer, or delete the lineages certctl took over"],
        next=[
            *(rival.stop for rival in found),
            *(f"certbot delete --cert-name {name}" for name, _ in listed if _SAFE_NAME.fullmatch(name)),
            "certctl timer install",
        ],
    )


def lineages(root: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield certbot's lineages, each with its names; certbot's directory is only ever read."""
    for conf in sorted((root / "etc/letsencrypt/renewal").glob("*.conf")):
        try:
            path = _certificate_path(conf, root)
            yield conf.stem, _names(path) or {conf.stem.lower()}
        except OSError:
            yield conf.stem, {conf.stem.lower()}


def _certificate_path(conf: Path, root: Path) -> Path:
    text = conf.read_bytes()[:_MAX_BYTES].decode("utf-8", "replace")
    named = _CERTIFICATE.search(text)
    return root / (named[1].lstrip("/") if named else f"etc/letsencrypt/live/{conf.stem}/cert.pem")


def _names(path: Path) -> set[str]:
    """Return the SANs of a certificate; none when it is not one."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(path.read_bytes()[:_MAX_BYTES])
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}
    except (ValueError, x509.ExtensionNotFound):
        return set()


def _liveliness(timer: str, root: Path, systemd: Systemd | None) -> str:
    """Say how a timer is alive: running, or about to at the next boot; an empty text when it is not."""
    if systemd and systemd.is_active(timer):
        return "active"
    wanted = (root / "etc/systemd/system").glob(f"*.wants/{timer}")
    return "enabled" if next(wanted, None) else ""


def _cron_works(root: Path) -> bool:
    """Tell whether the cron line does anything: Debian's does nothing where systemd runs (certbot 2.1.0-4)."""
    try:
        lines = (root / _CRON).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    booted = (root / "run/systemd/system").is_dir()
    commands = [line for line in lines if "certbot" in line and not line.lstrip().startswith("#")]
    return any(not (booted and "/run/systemd/system" in line) for line in commands)
