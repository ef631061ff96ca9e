"""The CNAME chain of a domain, each link queried at the nameservers of its own zone."""

from dataclasses import dataclass, replace

from dns.name import Name
from dns.rdatatype import CNAME

from certctl.dns.ask import MAX_LINKS, Outcome
from certctl.dns.facts import not_ready
from certctl.dns.zone import ZoneAnswer, Zones, plain
from certctl.dns_records import DnsFacts
from certctl.errors import NotReady
from certctl.slugs import Slug


@dataclass(frozen=True, slots=True)
class Chain:
    """The names from the domain to the end of its CNAMEs, with the answers that named them.

    Attributes:
        names: At least the domain itself.
        answers: The answer about each name in turn; our target itself is not queried.
        outcome: The kind of reply at the end: NXDOMAIN, no CNAME there, or ``RECORDS`` at our target.
    """

    names: tuple[Name, ...]
    answers: tuple[ZoneAnswer, ...]
    outcome: Outcome

    @property
    def end(self) -> Name:
        """Return the last name, at which there is no CNAME or which is our target."""
        return self.names[-1]

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the CNAME records of the chain, as zone file lines."""
        return tuple(line for answer in self.answers for line in answer.lines)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Return the target of each CNAME, in zone file form."""
        return tuple(f"{plain(name)}." for name in self.names[1:])

    @property
    def asked(self) -> tuple[str, ...]:
        """Return the sentence that names the servers queried about the domain, as a tuple of one."""
        return tuple(answer.asked for answer in self.answers[:1])

    @property
    def seen(self) -> tuple[str, ...]:
        """Return the servers that gave no usable reply about the domain, then the records."""
        return (*(line for answer in self.answers[:1] for line in answer.unanswered), *self.lines)


def follow(zones: Zones, name: Name, target: Name) -> Chain:
    """Follow a domain's CNAMEs to our target or to their end; names are compared as names, not as text.

    Raises:
        NotReady: the chain loops or is too long, its nameservers fail or do not agree.
        Unreachable: no resolver answered.
    """
    names, answers, outcome = [name], list[ZoneAnswer](), Outcome.RECORDS
    while names[-1] != target:
        answer = _ask_link(zones, names, answers)
        answers.append(answer)
        _check_agreement(names[-1], answer)
        alias, outcome = answer.replies[0].alias, answer.replies[0].outcome
        if alias is None:
            break
        _check_length(Chain((*names, alias), tuple(answers), outcome))
        names.append(alias)
    return Chain(tuple(names), tuple(answers), outcome)


def _ask_link(zones: Zones, names: list[Name], before: list[ZoneAnswer]) -> ZoneAnswer:
    try:
        return zones.ask_nameservers(names[-1], CNAME)
    except NotReady as error:
        lines = tuple(line for answer in before for line in answer.lines)
        error.seen = (*lines, *error.seen)
        error.facts = replace(error.facts, seen=(*lines, *error.facts.seen))
        raise


def _check_agreement(name: Name, answer: ZoneAnswer) -> None:
    """Refuse an answer in which nameservers differ: the CA may ask any of them, from several places."""
    if len({(reply.alias, reply.outcome) for reply in answer.replies}) > 1:
        raise disagree(name, answer)


def disagree(name: Name, *answers: ZoneAnswer) -> NotReady:
    """Return the error for nameservers whose replies differ, with each reply."""
    said = [
        f"{reply.server.name}: {line}"
        for answer in answers
        for reply in answer.replies
        for line in reply.lines or (reply.outcome.value,)
    ]
    return not_ready(
        Slug.DNS_DISAGREE,
        f"the nameservers of {plain(name)} do not agree: a change has not reached all of them, or one is left out",
        DnsFacts(seen=tuple(said)),
        expected=["the same answer from every nameserver"],
    )


def _check_length(chain: Chain) -> None:
    """Refuse a CNAME chain that loops, or is longer than resolvers follow."""
    if chain.end in chain.names[:-1]:
        problem = f"the CNAME chain of {plain(chain.names[0])} comes back to {plain(chain.end)}"
    elif len(chain.names) > MAX_LINKS + 1:
        problem = f"the CNAME chain of {plain(chain.names[0])} is longer than {MAX_LINKS} links"
    else:
        return
    raise not_ready(Slug.DNS_CNAME_LOOP, problem, DnsFacts(asked=chain.asked, seen=chain.seen))
