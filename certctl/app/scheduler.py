"""What the timer's files depend on: this certctl, this host, and the names we and certbot have."""

import os
import sys
from datetime import datetime
from pathlib import Path

import certctl
from certctl.app.context import House
from certctl.app.ownership import as_owner
from certctl.config import chosen_file
from certctl.domain import Domain
from certctl.errors import CertctlError, ConfigInvalid
from certctl.io.process import beside_python
from certctl.slugs import Slug
from certctl.timer.files import Purpose
from certctl.timer.systemd import Systemd
from certctl.timer.units import RENEWING, TIMER, UnitSettings
from certctl.values import Mode

_UNIT, _CRON = f"/etc/systemd/system/{TIMER}", "/etc/cron.d/certctl"
_CRONS = tuple(f"{place}/{name}" for place in ("/usr/sbin", "/usr/bin", "/sbin") for name in ("cron", "crond"))
_NOBODY = Domain("lineage.invalid")  # whose certificate it is does not matter here


def timer_settings(house: House) -> UnitSettings:
    """Return what the files should say: the same certctl, configuration and root as this run.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    chosen = {"--config": chosen_file(house.source.config), "--root": house.source.root}
    options = tuple(word for option, path in chosen.items() if path for word in (option, str(path.absolute())))
    return host_settings(house, _program(), options)


def host_settings(house: House, program: Path, options: tuple[str, ...]) -> UnitSettings:
    """Return what the files should say when they run this program with these options."""
    nginx = house.web.footprint()
    return UnitSettings(
        root=house.path("/"),
        program=program,
        options=options,
        needs=(*_needs(house, options), *(nginx.reads if nginx else ())),
        conf_dir=house.path(house.settings.nginx.conf_dir),
        writable=_writable(house),
        nginx_writes=nginx.writes if nginx else None,
        nginx_unit=house.web.unit,
        owner=_owner(house),
        socket=house.path(house.settings.serve.socket),
    )


def places(house: House) -> UnitSettings:
    """Return enough to know our files by, whatever they should say."""
    return UnitSettings(root=house.path("/"), program=Path("/usr/local/bin/certctl"))


def _needs(house: House, options: tuple[str, ...]) -> tuple[Path, ...]:
    """Return what a service has to see of the disk: certctl, its Python, and what the configuration names."""
    nginx, notify, ca = house.settings.nginx, house.settings.notify, house.settings.ca
    named = (
        *options, nginx.binary, *nginx.reload[:1], nginx.template, *notify.command[:1], ca.ca_file,
        house.settings.approval.ca_file, house.settings.wildcard.dns_options.get("credentials", ""),
    )  # fmt: skip
    ours = (Path(sys.executable), Path(sys.prefix), Path(certctl.__file__))
    return (*ours, *(Path(word) for word in named if word.startswith("/")))


def _owner(house: House) -> tuple[str, str] | None:
    """Return who owns certctl's state; None, which is root, where the daemon must keep root's rights."""
    return None if house.mode is Mode.BLOCKS else (house.settings.serve.user, house.settings.nginx.group)


def _writable(house: House) -> tuple[Path, ...]:
    """Return our directories that the unit does not name already."""
    database = house.database.parent
    elsewhere = () if database == house.state else (database,)
    return elsewhere if house.path("/") == Path("/") else (house.state, house.sites, house.run, *elsewhere)


def _program() -> Path:
    """Return this certctl, by the name it was called: a link such as /usr/local/bin/certctl outlives an upgrade.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    for path in (Path(sys.argv[0]).absolute(), beside_python("certctl")):
        if path.name == "certctl" and path.is_file() and os.access(path, os.X_OK):
            return path
    raise ConfigInvalid(Slug.MISSING_PROGRAM, "this certctl has no program file that a timer could run")


def is_booted(house: House) -> bool:
    """Tell whether systemd runs this host (sd_booted(3))."""
    return house.path("/run/systemd/system").is_dir()


def open_systemd(house: House, purpose: Purpose = RENEWING) -> Systemd | None:
    """Return systemd; below another root its files are written, but it is never called."""
    return Systemd(failed=purpose.failed) if house.path("/") == Path("/") and is_booted(house) else None


def is_scheduled(house: House) -> bool:
    """Tell whether what would run here is in its place: our timer, or without systemd our cron line."""
    return house.path(_UNIT if is_booted(house) else _CRON).is_file()


def lacks_cron(house: House) -> bool:
    """Tell whether nothing here reads a cron line, where one is needed: many containers and minimal installs."""
    return not is_booted(house) and not any(house.path(cron).exists() for cron in _CRONS)


def next_run(house: House) -> datetime | None:
    """Return when our timer runs next; None where it does not, or where systemd is not asked."""
    systemd = open_systemd(house) if house.path(_UNIT).is_file() else None
    try:
        return systemd.next_run(TIMER) if systemd else None
    except ConfigInvalid:
        return None


def our_names(house: House) -> set[str]:
    """Return every name certctl has; a store that does not exist yet is not created for it."""
    if not house.database.exists():
        return set()
    with as_owner(house):  # SQLite follows a link where its log should be, and gives it away (3.40)
        return stored_names(house)


def stored_names(house: House) -> set[str]:
    """Return every name the store has."""
    rows = house.store.domains()
    return {n for row in rows for n in (row.domain.name, *(row.certificate.names if row.certificate else ()))}


def lineage_names(root: Path) -> dict[str, set[str]]:
    """Return the names of each of certbot's lineages."""
    from certctl.timer.certbot_timer import lineages

    return {lineage: names_in(lineage, path) for lineage, path in lineages(root).items()}


def names_in(lineage: str, path: Path) -> set[str]:
    """Return the names in one of certbot's certificates; one that cannot be read has its lineage's name."""
    from certctl.ca.certificate import describe

    try:
        return {name.lower() for name in describe(path.read_text(encoding="ascii"), _NOBODY).names}
    except (CertctlError, OSError, ValueError):
        return {lineage.lower()}
