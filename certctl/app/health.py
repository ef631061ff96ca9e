"""What ``certctl doctor`` looks at, and the fixes that cannot hurt."""

from collections.abc import Callable, Iterator, Sequence

from certctl.app import identity
from certctl.app.context import House
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


def mended(house: House, report: Report) -> Iterator[Finding]:
    """Apply the fixes; one that cannot be applied is a finding, beside whatever else is wrong."""
    try:
        prepare_directories(house)
        house.store.strike_unwritten()
        report.note(house.web.install_base().summary)
    except CertctlError as error:
        yield Finding("state", Level.PROBLEM, f"the fixes ended early: {error.message}", _elsewhere(error))


def examine(house: House) -> Iterator[Finding]:
    """Ask every party how it is; one that fails to answer is itself a finding."""
    from certctl.app.daemon_status import examine as examine_daemon

    examinations: Sequence[tuple[str, Callable[[], Sequence[Finding]]]] = (
        ("config", lambda: configuration(house)),
        ("state", lambda: examine_state(house)),
        ("store", lambda: _store(house)),
        ("dns", lambda: house.dns.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("wildcard", lambda: list(wildcards(house))),
        ("approval", lambda: house.operator.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("ca", lambda: house.ca.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("nginx", lambda: house.web.examine(_some_customers(house))),
        ("nginx", lambda: list(sites(house))),
        ("timer", lambda: renewers(house)),
        ("serve", lambda: list(examine_daemon(house))),
        ("notify", lambda: notifier(house)),
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
    """Return what to type next; whoever reads it has just run the doctor."""
    return next(command for command in error.next if command != "certctl doctor")


def _some_customers(house: House) -> Sequence[Domain]:
    """Return a few customers' names from all over the list; that the store does not answer is said elsewhere."""
    try:
        names = [row.domain for row in house.store.domains() if row.certificate and not row.domain.is_wildcard]
    except CertctlError:
        return []
    return names[:: max(1, len(names) // _ASKED)][:_ASKED]


def wildcards(house: House) -> Iterator[Finding]:
    """Look at the zones of our own: who renews them, and where the CA looks for their challenge."""
    for row in house.world.candidates():
        if not row.domain.is_wildcard or row.damage:
            continue
        sight = house.txt_watch.look(row.domain.zone)
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


def configuration(house: House) -> list[Finding]:
    """Look for the file, and for a default in force that is somebody else's."""
    found = identity.borrowed(house)
    mine = [Finding("config", Level.WARNING, *found)] if found else []
    if house.file.exists():
        return [Finding("config", Level.OK, f"{house.file} is valid"), *mine]
    return [Finding("config", Level.WARNING, f"no {house.file}: the defaults are in force", "certctl init"), *mine]


def _store(house: House) -> list[Finding]:
    url, strange = house.settings.store.url, house.store.unwritten()
    findings = [
        Finding("store", Level.PROBLEM, f"the row of {row.domain} is damaged: {row.damage}", mending(row))
        for row in house.store.damaged()
    ]
    if strange:
        text = f"{len(strange)} rows of names that certctl never wrote, such as {strange[0][:_SHOWN]!a}"
        findings.append(Finding("store", Level.PROBLEM, text, "certctl doctor --fix"))
    return findings or [Finding("store", Level.OK, f"{url}, {house.store.count()} domains")]


def sites(house: House) -> Iterator[Finding]:
    """Look for domains of the store that nginx has no files of: nobody else would miss them."""
    less = find_unknown(house.world)
    if less:
        text = f"nginx serves what the store does not know, or knows an older certificate of: {_some(list(less))}"
        yield Finding("store", Level.PROBLEM, text, "certctl reconcile --adopt")
    rows = [row for row in house.store.domains() if row.domain not in less]
    stored = [(row, row.certificate) for row in rows if row.certificate]
    absent = [(row, known) for row, known in stored if not house.web.is_published(known, row.mode)]
    lost = [row for row, certificate in absent if row.served == certificate.version]
    behind = [row for row, certificate in absent if row.served not in {0, certificate.version}]
    fresh = [row for row, _ in absent if not row.served]
    old = [row for row, certificate in stored if house.web.is_in_old_place(certificate, row.mode)]
    for level, rows, what in (
        (Level.PROBLEM, lost, "files of theirs are gone"),
        (Level.PROBLEM, behind, "nginx does not have their newest certificate"),
        (Level.WARNING, fresh, "not published yet"),
        (
            Level.WARNING,
            old,
            f"keys of server blocks outside of {house.sites}, as an older certctl put them",
        ),
    ):
        if rows:
            yield Finding("nginx", level, f"{what}: {_some([row.domain for row in rows])}", "certctl reconcile")


def _some(domains: Sequence[Domain]) -> str:
    more = f" and {len(domains) - _LISTED} more" if len(domains) > _LISTED else ""
    return ", ".join(map(str, domains[:_LISTED])) + more


def renewers(house: House) -> list[Finding]:
    """Look for who runs the renewals."""
    from certctl.app.scheduler import stored_names
    from certctl.app.scheduler_status import examine_timer

    return list(examine_timer(house, stored_names(house)))


def notifier(house: House) -> list[Finding]:
    """Look whether the command that tells people can be run."""
    command = house.settings.notify.command
    if not command:
        return []
    try:
        find(command[0])
    except Missing as error:
        where = f"is only on this shell's PATH: {error.elsewhere}" if error.elsewhere else "cannot be run"
        text = f"[notify] command: {command[0]} {where}"
        return [Finding("notify", Level.PROBLEM, text, "certctl config show")]
    return [Finding("notify", Level.OK, f"{command[0]} is told of what needs a person")]
