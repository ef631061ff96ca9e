"""The checks of ``certctl doctor``, and those fixes that ``--fix`` applies because they cannot do harm."""

from collections.abc import Callable, Iterator, Sequence

from certctl.app import identity
from certctl.app.context import Context
from certctl.app.directories import prepare_directories
from certctl.app.directory_status import examine_state
from certctl.app.report import Report
from certctl.domain import Domain
from certctl.errors import CertctlError, unforeseen
from certctl.io.process import Missing, find
from certctl.stories.damage import mending
from certctl.stories.unknown import find_unknown
from certctl.stories.wildcard import needs_person, solver_of
from certctl.values import DomainRow, Finding, Level

_LISTED = 5
_ASKED = 3
_SHOWN = 80


def mended(context: Context, report: Report) -> Iterator[Finding]:
    """Apply the safe fixes; yield a finding for each one that failed."""
    try:
        prepare_directories(context)
        context.store.strike_unwritten()
        report.note(context.web.install_base().summary)
    except CertctlError as error:
        yield Finding("state", Level.PROBLEM, f"the fixes ended early: {error.message}", _elsewhere(error))


def examine(context: Context) -> Iterator[Finding]:
    """Run every check and yield its findings; an exception of a check is a finding too."""
    from certctl.app.daemon_status import examine as examine_daemon

    examinations: Sequence[tuple[str, Callable[[], Sequence[Finding]]]] = (
        ("config", lambda: configuration(context)),
        ("state", lambda: examine_state(context)),
        ("store", lambda: _store(context)),
        ("dns", lambda: context.dns.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("wildcard", lambda: list(wildcards(context))),
        ("approval", lambda: context.operator.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("ca", lambda: context.ca.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("nginx", lambda: context.web.examine(_some_customers(context))),
        ("nginx", lambda: list(sites(context))),
        ("timer", lambda: renewers(context)),
        ("serve", lambda: list(examine_daemon(context))),
        ("notify", lambda: notifier(context)),
    )
    said = set[str]()  # a store that cannot be read stops several looks, and is one fault
    for area, look in examinations:
        try:
            yield from look()
        except (CertctlError, OSError) as error:
            known = error if isinstance(error, CertctlError) else unforeseen(error)
            if known.message not in said:
                yield Finding(area, Level.PROBLEM, known.message, _elsewhere(known))
            said.add(known.message)


def _elsewhere(error: CertctlError) -> str:
    """Return the first command to type next that is not ``certctl doctor`` itself."""
    return next(command for command in error.next if command != "certctl doctor")


def _some_customers(context: Context) -> Sequence[Domain]:
    """Return a few customers' names spread over the list; none when the store fails: another check reports that."""
    try:
        names = [row.domain for row in context.store.domains() if row.certificate and not row.domain.is_wildcard]
    except CertctlError:
        return []
    return names[:: max(1, len(names) // _ASKED)][:_ASKED]


def wildcards(context: Context) -> Iterator[Finding]:
    """Check the operator's own zones: who renews their wildcards, and where the CA looks for the TXT record."""
    for row in context.world.candidates():
        if not row.domain.is_wildcard or row.damage:
            continue
        sight = context.txt_watch.look(row.domain.zone)
        if sight.owner != sight.asked:
            text = f"{sight.asked} is a CNAME: the CA looks at {sight.owner}, in the zone {sight.zone}"
            yield Finding("wildcard", Level.OK, text)
        yield from (Finding("wildcard", Level.WARNING, note) for note in sight.notes)
        yield _renewer(row)


def _renewer(row: DomainRow) -> Finding:
    if needs_person(row):
        fix = f"certctl wildcard {row.domain.zone} --dns PLUGIN, or see: certctl explain dns-delegation"
        return Finding("wildcard", Level.WARNING, f"{row.domain} is renewed by hand: only you can do it", fix)
    return Finding("wildcard", Level.OK, f"{row.domain} renews by dns-{solver_of(row).plugin}")


def configuration(context: Context) -> list[Finding]:
    """Check that there is a configuration file, and that no default meant for another operator is in force."""
    found = identity.foreign_defaults(context)
    mine = [Finding("config", Level.WARNING, *found)] if found else []
    if context.file.exists():
        return [Finding("config", Level.OK, f"{context.file} is valid"), *mine]
    return [
        Finding("config", Level.WARNING, f"no {context.file}: the defaults are in force", "certctl init"),
        *mine,
    ]


def _store(context: Context) -> list[Finding]:
    url, strange = context.settings.store.url, context.store.unwritten()
    findings = [
        Finding("store", Level.PROBLEM, f"the row of {row.domain} is damaged: {row.damage}", mending(row))
        for row in context.store.damaged()
    ]
    if strange:
        text = f"{len(strange)} rows of names that certctl never wrote, such as {strange[0][:_SHOWN]!a}"
        findings.append(Finding("store", Level.PROBLEM, text, "certctl doctor --fix"))
    return findings or [Finding("store", Level.OK, f"{url}, {context.store.count()} domains")]


def sites(context: Context) -> Iterator[Finding]:
    """Check that nginx has the files of each domain in the store, and that the store has each site nginx serves."""
    less = find_unknown(context.world)
    if less:
        text = f"nginx serves what the store does not know, or knows an older certificate of: {_some(list(less))}"
        yield Finding("store", Level.PROBLEM, text, "certctl reconcile --adopt")
    rows = [row for row in context.store.domains() if row.domain not in less]
    stored = [(row, row.certificate) for row in rows if row.certificate]
    absent = [(row, known) for row, known in stored if not context.web.is_published(known, row.mode)]
    lost = [row for row, certificate in absent if row.served == certificate.version]
    behind = [row for row, certificate in absent if row.served not in {0, certificate.version}]
    fresh = [row for row, _ in absent if not row.served]
    old = [row for row, certificate in stored if context.web.is_in_old_place(certificate, row.mode)]
    for level, rows, what in (
        (Level.PROBLEM, lost, "files of theirs are gone"),
        (Level.PROBLEM, behind, "nginx does not have their newest certificate"),
        (Level.WARNING, fresh, "not published yet"),
        (
            Level.WARNING,
            old,
            f"keys of server blocks outside of {context.sites}, as an older certctl put them",
        ),
    ):
        if rows:
            yield Finding("nginx", level, f"{what}: {_some([row.domain for row in rows])}", "certctl reconcile")


def _some(domains: Sequence[Domain]) -> str:
    more = f" and {len(domains) - _LISTED} more" if len(domains) > _LISTED else ""
    return ", ".join(map(str, domains[:_LISTED])) + more


def renewers(context: Context) -> list[Finding]:
    """Check that a timer or cron runs the renewals."""
    from certctl.app.scheduler import stored_names
    from certctl.app.scheduler_status import examine_timer

    return list(examine_timer(context, stored_names(context)))


def notifier(context: Context) -> list[Finding]:
    """Check that the command in ``[notify]`` can be run."""
    command = context.settings.notify.command
    if not command:
        return []
    try:
        find(command[0])
    except Missing as error:
        where = f"is only on this shell's PATH: {error.elsewhere}" if error.elsewhere else "cannot be run"
        text = f"[notify] command: {command[0]} {where}"
        return [Finding("notify", Level.PROBLEM, text, "certctl config show")]
    return [Finding("notify", Level.OK, f"{command[0]} is told of what needs a person")]
