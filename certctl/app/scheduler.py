"""The settings of the timer's files on this host, whether they are in place, and the names certbot has too."""

import os
import sys
from datetime import datetime
from pathlib import Path

import certctl
from certctl.app.context import Context
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


def timer_settings(context: Context) -> UnitSettings:
    """Return the settings of the timer's files: the same certctl, configuration and root as this run.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    chosen = {"--config": chosen_file(context.source.config), "--root": context.source.root}
    options = tuple(word for option, path in chosen.items() if path for word in (option, str(path.absolute())))
    return host_settings(context, _program(), options)


def host_settings(context: Context, program: Path, options: tuple[str, ...]) -> UnitSettings:
    """Return the settings of files that run this program with these options."""
    nginx = context.web.footprint()
    return UnitSettings(
        root=context.path("/"),
        program=program,
        options=options,
        needs=(*_needs(context, options), *(nginx.reads if nginx else ())),
        conf_dir=context.path(context.settings.nginx.conf_dir),
        writable=_writable(context),
        nginx_writes=nginx.writes if nginx else None,
        nginx_unit=context.web.unit,
        owner=_owner(context),
        socket=context.path(context.settings.serve.socket),
    )


def places(context: Context) -> UnitSettings:
    """Return settings with the paths of the files alone, for a caller who only looks whether they are there."""
    return UnitSettings(root=context.path("/"), program=Path("/usr/local/bin/certctl"))


def _needs(context: Context, options: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the paths a sandboxed service must read: certctl, its Python, and what the configuration names."""
    nginx, notify, ca = context.settings.nginx, context.settings.notify, context.settings.ca
    named = (
        *options, nginx.binary, *nginx.reload[:1], nginx.template, *notify.command[:1], ca.ca_file,
        context.settings.approval.ca_file, context.settings.wildcard.dns_options.get("credentials", ""),
    )  # fmt: skip
    ours = (Path(sys.executable), Path(sys.prefix), Path(certctl.__file__))
    return (*ours, *(Path(word) for word in named if word.startswith("/")))


def _owner(context: Context) -> tuple[str, str] | None:
    """Return the user and group who own certctl's state; None for root."""
    return None if context.mode is Mode.BLOCKS else (context.settings.serve.user, context.settings.nginx.group)


def _writable(context: Context) -> tuple[Path, ...]:
    """Return certctl's directories that the shipped unit does not name in ``ReadWritePaths=`` already."""
    database = context.database.parent
    elsewhere = () if database == context.state else (database,)
    return elsewhere if context.path("/") == Path("/") else (context.state, context.sites, context.run, *elsewhere)


def _program() -> Path:
    """Return the path this certctl was called by: a link such as /usr/local/bin/certctl stays after an upgrade.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    for path in (Path(sys.argv[0]).absolute(), beside_python("certctl")):
        if path.name == "certctl" and path.is_file() and os.access(path, os.X_OK):
            return path
    raise ConfigInvalid(Slug.MISSING_PROGRAM, "this certctl has no program file that a timer could run")


def is_booted(context: Context) -> bool:
    """Tell whether systemd runs this host (sd_booted(3))."""
    return context.path("/run/systemd/system").is_dir()


def open_systemd(context: Context, purpose: Purpose = RENEWING) -> Systemd | None:
    """Return systemd; None below another root, where its files are written but it is never called."""
    return Systemd(failed=purpose.failed) if context.path("/") == Path("/") and is_booted(context) else None


def is_scheduled(context: Context) -> bool:
    """Tell whether renewals are scheduled: by our timer, or without systemd by our cron line."""
    return context.path(_UNIT if is_booted(context) else _CRON).is_file()


def lacks_cron(context: Context) -> bool:
    """Tell whether this host has neither systemd nor cron, as many containers and minimal installs."""
    return not is_booted(context) and not any(context.path(cron).exists() for cron in _CRONS)


def next_run(context: Context) -> datetime | None:
    """Return when our timer elapses next; None where it does not run, or systemd is not asked."""
    systemd = open_systemd(context) if context.path(_UNIT).is_file() else None
    try:
        return systemd.next_run(TIMER) if systemd else None
    except ConfigInvalid:
        return None


def our_names(context: Context) -> set[str]:
    """Return every name in the store; a database that does not exist is not created for it."""
    if not context.database.exists():
        return set()
    with as_owner(context):  # SQLite follows a link where its log should be, and gives it away (3.40)
        return stored_names(context)


def stored_names(context: Context) -> set[str]:
    """Return every name in the store: of its domains, and in their certificates."""
    rows = context.store.domains()
    return {n for row in rows for n in (row.domain.name, *(row.certificate.names if row.certificate else ()))}


def lineage_names(root: Path) -> dict[str, set[str]]:
    """Return the names in the certificate of each certbot lineage, by the lineage's name."""
    from certctl.timer.certbot_timer import lineages

    return {lineage: names_in(lineage, path) for lineage, path in lineages(root).items()}


def names_in(lineage: str, path: Path) -> set[str]:
    """Return the names in one of certbot's certificates; the lineage's name for one that cannot be read."""
    from certctl.ca.certificate import describe

    try:
        return {name.lower() for name in describe(path.read_text(encoding="ascii"), _NOBODY).names}
    except (CertctlError, OSError, ValueError):
        return {lineage.lower()}
