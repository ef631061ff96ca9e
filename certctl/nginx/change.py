"""A change of what nginx serves, in up to two parts: server blocks under nginx's lock, and the mirror alone."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from hashlib import sha256

from certctl.domain import CHECK_DOMAIN, Domain
from certctl.errors import Busy
from certctl.io.locks import lock
from certctl.nginx import mirror, probe
from certctl.nginx.block_change import BlockChange, Work, in_force
from certctl.nginx.broken import BrokenBlocks, Recall
from certctl.nginx.command import NginxCommand
from certctl.nginx.mirror_change import MirrorChange
from certctl.nginx.serverblock import is_our_block
from certctl.nginx.settings import NginxSettings
from certctl.nginx.transaction import Transaction
from certctl.values import Done, Mode

_STRIPES = 256  # lock files for all names: a change of 100,000 sites must not need as many descriptors

Locked = Callable[[], AbstractContextManager[Transaction]]
"""Returns a context that holds nginx's lock and yields a prepared transaction."""


class SiteChange:
    """Implements ``parties.Change``: each step is done for server blocks first, then for the mirror."""

    def __init__(self, parts: Sequence[BlockChange | MirrorChange]) -> None:
        self._parts = parts

    def publish(self) -> Done:
        """Publish all parts; see ``BlockChange.publish`` and ``MirrorChange.publish``."""
        return _joined([part.publish() for part in self._parts])

    def reload(self) -> Done:
        """Reload nginx if a part needs that; see ``BlockChange.reload`` and ``MirrorChange.reload``."""
        return _joined([part.reload() for part in self._parts])

    def confirm(self, domain: Domain) -> Done:
        """Confirm the domain in the part that it belongs to."""
        return next(part for part in self._parts if part.is_about(domain)).confirm(domain)


@contextmanager
def open_change(
    settings: NginxSettings, command: NginxCommand, locked: Locked, recall: Recall, work: Work
) -> Iterator[SiteChange]:
    """Yield the change under the locks it needs; on any exception each part rolls back what it did.

    Raises:
        Busy: another run holds nginx's lock, or a site's, for too long.
    """
    with ExitStack() as held:
        if settings.mode is not Mode.BLOCKS:
            held.enter_context(
                _locked_sites(settings, map(_stripe, (*(site.domain for site in work.sites), *work.gone)))
            )
        blocks, rest = _split(in_force(settings), work)
        parts: list[BlockChange | MirrorChange] = []
        if blocks or settings.mode is Mode.BLOCKS:
            parts.append(held.enter_context(_guarded(settings, command, locked, recall, blocks)))
        if rest or not parts:
            parts.append(held.enter_context(_mirrored(settings, command, rest)))
        yield SiteChange(parts)


def _split(settings: NginxSettings, work: Work) -> tuple[Work, Work]:
    """Return (the part with server blocks, the part without) of a change."""

    def touches_block(domain: Domain) -> bool:
        return settings.mode is Mode.BLOCKS or is_our_block(settings.block_path(domain))

    blocks, rest = Work([], []), Work([], [])
    for site in work.sites:
        (blocks if settings.has_block(site) or touches_block(site.domain) else rest).sites.append(site)
    for domain in work.gone:
        (blocks if touches_block(domain) else rest).gone.append(domain)
    return blocks, rest


def every_site_locked(settings: NginxSettings) -> AbstractContextManager[None]:
    """Hold the locks of all sites, so that no link changes; take them before nginx's lock, as a change does.

    Raises:
        Busy: another run changes one for too long.
    """
    return _locked_sites(settings, range(_STRIPES))


def _stripe(domain: Domain) -> int:
    return int(sha256(domain.name.encode()).hexdigest(), 16) % _STRIPES


@contextmanager
def _locked_sites(settings: NginxSettings, stripes: Iterable[int]) -> Iterator[None]:
    """Hold the locks of these domains' links, in a fixed order, so that no two changes deadlock."""
    with ExitStack() as held:
        for stripe in sorted(set(stripes)):
            path = settings.lock_file.parent / "sites" / f"{stripe:02x}.lock"
            held.enter_context(lock(path, settings.lock_wait, "one of these sites"))
        yield


@contextmanager
def _guarded(
    settings: NginxSettings, command: NginxCommand, locked: Locked, recall: Recall, work: Work
) -> Iterator[BlockChange]:
    with locked() as transaction:
        settings = in_force(settings)  # only now: what a killed run did to the base file has been taken back
        change = BlockChange(settings, command, transaction, BrokenBlocks(settings, command, recall), work)
        try:
            yield change
        except BaseException as error:
            transaction.give_up(error)
            raise
        change.settle()


@contextmanager
def _mirrored(settings: NginxSettings, command: NginxCommand, work: Work) -> Iterator[MirrorChange]:
    _sweep(settings)
    change = MirrorChange(settings, command, work.sites, work.gone)
    try:
        yield change
    except BaseException as error:
        change.give_up(error)
        raise
    change.settle()


def _sweep(settings: NginxSettings) -> None:
    """Remove what a killed proof left; it runs under nginx's lock, which every proof holds."""
    if os.path.lexists(mirror.domain_path(settings.live, CHECK_DOMAIN)):
        with suppress(Busy), lock(settings.lock_file, timedelta(), "nginx"):
            probe.sweep(settings)


def _joined(done: Sequence[Done]) -> Done:
    told = [each for each in done if each.changed] or done[:1]
    return Done("; ".join(each.summary for each in told), changed=any(each.changed for each in done))
