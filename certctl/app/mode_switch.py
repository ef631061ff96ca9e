"""Switch a host from one mode of serving to another without downtime: every site is served at every moment.

A move is journalled (``app/move_journal.py``) before it begins, until the configuration has the new mode: after a
kill the next command finishes it or rolls it back.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from certctl.app import move_journal
from certctl.app.config_file import wanted, write
from certctl.app.context import Context, Source, read_new_context
from certctl.app.directories import changes_owner, prepare_directories
from certctl.app.move_journal import Kind, Move
from certctl.app.ownership import first_unwritable, work_as_owner
from certctl.app.report import Report
from certctl.app.toml_edit import Key
from certctl.config import parse
from certctl.errors import CertctlError
from certctl.io.fsuid import may_change_owners
from certctl.serve.worker import Silent
from certctl.stories.journey import Journey, Listener
from certctl.stories.reconcile import publish_everyone
from certctl.stories.unknown import find_unknown, store_knows_less
from certctl.values import Mode, Preview

_PASSES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """A host before and after a move, and the new configuration file."""

    old: Context
    new: Context
    config: Preview

    def written_down(self, values: Mapping[Key, str]) -> Move:
        """Return the entry for the journal, from which a later run can finish the move."""
        return Move(Kind.MOVE, self.old.mode, self.new.mode, self.old.file, changes_owner(self.new), values)


def plan(old: Context, values: Mapping[Key, str], root: Path | None) -> Plan:
    """Return the host that a configuration with these values describes."""
    config = wanted(old, values)
    return Plan(old, old.set_to(parse(config.text, old.file, root)), config)


def require_nginx(context: Context) -> None:
    """Refuse a move while nginx does not run: whether a site is served could not be confirmed.

    Raises:
        WebServerFailed: ``nginx-not-running``.
    """
    if any(row.certificate for row in context.store.domains()):
        context.web.require_running("the move would take every site out of an nginx that cannot show it")


def move(host: Plan, written: Move, listener: Listener) -> Sequence[Journey]:
    """Change the state's owner, the base file, every site, and last the configuration; needs the exclusive lock.

    A site that cannot be moved behind the catch-all keeps its server block. When one cannot get a server block,
    or nginx refuses the base file, all is as it was.

    Raises:
        WebServerFailed: nginx refused the base file, or what it serves with it is not what is in the mirror.
        ConfigInvalid: ``state-unwritable``.
        Unreachable: ``store-knows-less``: sites without a server block would no longer be served. Nothing changed.
    """
    sites = host.new.sites
    move_journal.begin(sites, written)
    try:
        _require_known(host)
        journeys = _settle(host.new, listener)
        write(host.new, [host.config])
    except BaseException:
        if written.kind is Kind.MOVE:
            with suppress(CertctlError):  # the first error is the news; the next command tries again
                _take_back(host.old, written, listener)
        raise
    move_journal.end(sites)
    return journeys


def resume(source: Source, written: Move, warn: Callable[[str], None]) -> None:
    """Finish a move that was cut short, or roll it back, and say which in one line; needs the exclusive lock.

    A run without the rights to do so only warns and goes on: no server block that is needed is removed.
    """
    old = read_new_context(replace(source, config=written.config)).in_mode(written.source)
    work_as_owner(old)
    try:
        if obstacle := _obstacle(old, written):
            warn(f"{written.text} was cut short, and {obstacle}; next: sudo certctl reconcile")
            return
        host = plan(old, written.values, source.root)
        host = replace(host, new=host.new.in_mode(written.target))
        kept = [each for each in _finish(host, written) if each.error]
    except CertctlError as error:
        still = move_journal.found(old.sites)
        how = "was cut short and could not be finished" if still else "had been cut short and was taken back"
        warn(f"{written.text} {how}: {error.message}" + ("; next: sudo certctl reconcile" if still else ""))
        return
    finally:
        old.close()
    rest = f"; {len(kept)} sites stayed as they were: certctl reconcile" if kept else ""
    warn(f"{written.text} had been cut short and was finished{rest}")


def _finish(host: Plan, written: Move) -> Sequence[Journey]:
    if written.kind is Kind.OWNER:
        prepare_directories(host.new)
        move_journal.end(host.new.sites)
        return []
    require_nginx(host.old)
    return move(host, written, Silent())


def bring_pairs_over(context: Context, report: Report) -> Sequence[Journey]:
    """Publish every site again, where server blocks read certificates from the place an older certctl used."""
    rows = context.store.domains() if context.database.exists() else []
    if not any(row.certificate and context.web.is_in_old_place(row.certificate, row.mode) for row in rows):
        return []
    report.expect(len(rows))
    return _publish(context, report)


def _obstacle(context: Context, written: Move) -> str | None:
    """Return why this run may not finish a move, as the timer's sandboxed service may not; None if it may."""
    places = (written.config.parent, context.path(context.settings.nginx.conf_dir), context.state, context.sites)
    if place := first_unwritable(*places):
        return f"this run may not write {place}"
    return "this run may not give files away" if written.changes_owner and not may_change_owners() else None


def _require_known(host: Plan) -> None:
    if host.new.web.ends_the_catch_all and (less := find_unknown(host.old.world)):
        raise store_knows_less(less)


def _take_back(context: Context, written: Move, listener: Listener) -> None:
    with suppress(CertctlError):  # on a full disk the way back is not written down, and is taken all the same
        move_journal.begin(context.sites, written.back())
    _settle(context, listener)
    move_journal.end(context.sites)


def _settle(context: Context, listener: Listener) -> Sequence[Journey]:
    """Bring a host to its mode from any state; server blocks precede the catch-all: first in, last out."""
    if context.mode is Mode.BLOCKS:
        return _apart(context, listener)
    context.web.require_access()
    prepare_directories(context)  # workers may read keys, then the catch-all is there and proven, then blocks go
    context.web.install_base()
    return _publish(context, listener)


def _apart(context: Context, listener: Listener) -> Sequence[Journey]:
    """Move to mode blocks: publish and confirm each server block, remove the catch-all, then give the keys to root.

    Where no catch-all is in force each site has its block already. A daemon that still runs may add a name
    meanwhile.
    """
    ends_the_catch_all = context.web.ends_the_catch_all
    if not ends_the_catch_all:
        prepare_directories(context)
    journeys = _publish(context, listener)
    for _ in range(_PASSES):
        error = next((journey.error for journey in journeys if journey.error), None)
        if error and ends_the_catch_all:
            raise error
        if context.web.without_block():
            journeys = _publish(context, listener)
    context.web.install_base()
    if ends_the_catch_all:
        prepare_directories(context)
    return journeys


def _publish(context: Context, listener: Listener) -> Sequence[Journey]:
    return publish_everyone(context.world, lambda domain: Journey(domain, listener))
