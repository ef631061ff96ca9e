"""Take a host from one way of serving to another: whoever is served stays served at every moment."""

from collections.abc import Sequence

from certctl.cli.reports import Report
from certctl.cli.state import prepare_directories
from certctl.cli.wiring import House
from certctl.errors import CertctlError
from certctl.stories.journey import Journey
from certctl.stories.reconcile import publish_everyone
from certctl.stories.unknown import find_unknown, store_knows_less


def move(old: House, new: House, report: Report) -> Sequence[Journey]:
    """Change the base file and every site; server blocks win over the catch-all, so they come first and go last.

    A site that cannot be moved behind the catch-all keeps its server block. When one cannot get a server block,
    or nginx refuses the base file, all is as it was.

    Raises:
        WebServerFailed: nginx refused the base file, or what it serves with it is not what is in the mirror.
        ConfigInvalid: ``state-unwritable``.
        Unreachable: ``store-knows-less``: who has no server block would go dark. Nothing was changed.
    """
    if new.settings.nginx.mode == "blocks" and (less := find_unknown(old.world)):
        raise store_knows_less(less)
    report.expect(len(new.store.domains()))
    return _apart(old, new, report) if new.settings.nginx.mode == "blocks" else _together(old, new, report)


def bring_pairs_over(house: House, report: Report) -> Sequence[Journey]:
    """Publish everyone where server blocks still read pairs from where an older certctl put them."""
    rows = house.store.domains() if house.database.exists() else []
    if not any(row.certificate and house.web.is_in_old_place(row.certificate, row.mode) for row in rows):
        return []
    report.expect(len(rows))
    return _publish(house, report)


def _together(old: House, new: House, report: Report) -> Sequence[Journey]:
    """Behind the catch-all: workers may read keys, then it is there and proven, then the server blocks go."""
    try:
        prepare_directories(new)
        new.web.install_base()
    except BaseException:
        prepare_directories(old)
        raise
    return _publish(new, report)


def _apart(old: House, new: House, report: Report) -> Sequence[Journey]:
    """To server blocks: each is there and proven, then the catch-all goes, then keys are root's alone."""
    journeys = _publish(new, report)
    try:
        if error := next((journey.error for journey in journeys if journey.error), None):
            raise error
        new.web.install_base()
    except CertctlError:
        _publish(old, report)
        raise
    prepare_directories(new)
    return journeys


def _publish(house: House, report: Report) -> Sequence[Journey]:
    return publish_everyone(house.world, lambda domain: Journey(domain, report))
