"""Every way certctl can fail: a stable slug, an exit code, who must act, and what to do next.

    CertctlError
    ├── Internal          1   a bug of ours, or a batch that failed for different reasons
    ├── NameRejected      2   not an acceptable domain name; nothing was asked of anyone
    ├── NotReady          3   the customer's DNS or CAA; the customer acts
    ├── NotApproved       4   the operator said no
    ├── Refused           5   the CA refused, or its validation failed
    ├── RateLimited       6   by the CA, or by our own budget before the CA was asked
    ├── WebServerFailed   7   nginx test, reload or confirmation; the previous configuration is back
    ├── Busy              8   another run holds the lock
    ├── Unreachable       9   resolver, approval endpoint, CA or store: no answer, which is not a no
    ├── ConfigInvalid    10   the configuration, or the place certctl is asked to work in
    └── Interrupted     130   Ctrl-C or SIGTERM

An error is raised with its slug; ``CATALOGUE`` holds what is true of every error with that slug, once.
The long explanations (``certctl explain SLUG``) are in ``explain.md`` beside this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum, auto
from typing import ClassVar

from certctl.dns_records import DnsFacts
from certctl.slugs import Slug


class ExitCode(IntEnum):
    """The process exit codes; public, additive only (docs/reference/exit-codes.md)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_READY = 3
    NOT_APPROVED = 4
    REFUSED = 5
    RATE_LIMITED = 6
    WEB_SERVER = 7
    BUSY = 8
    UNREACHABLE = 9
    CONFIG = 10
    INTERRUPTED = 130


class Who(StrEnum):
    """Who has to act before it can work."""

    CUSTOMER = "customer"
    OPERATOR = "operator"
    CA = "ca"
    NOBODY = "nobody"


class AtCa(Enum):
    """What a failure cost at the CA, by the CA's own count; after any but the first the domain backs off."""

    NOTHING = auto()
    ATTEMPT = auto()
    VALIDATION = auto()  # an attempt, and one of the failed validations that are limited
    UNSURE = auto()  # an attempt, and perhaps a certificate, which the CA may have made all the same
    CUT_SHORT = auto()  # as UNSURE where the CA had taken the order by then, else as NOTHING


class WaitsFor(Enum):
    """What a domain that was not tried waits for."""

    REST = auto()  # the end of its rest after failures
    BUDGET = auto()  # its turn in what the CA's limits allow
    PERSON = auto()  # somebody who makes its records by hand


class CertctlError(Exception):
    """A failure that a person or script can act on.

    Args:
        slug: A key of ``CATALOGUE``; it must belong to the class raised.
        message: One sentence with the particulars. May quote the outside world: it is escaped where it is shown.
        seen: What was observed, one fact a line.
        expected: What it should have been, one fact a line.
        next: Commands to type next, most useful first.
        retry_after: Seconds until a retry can succeed, when that is known.
        quota_used: Whether the CA's limits were spent on this attempt.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(  # noqa: PLR0913 - the fields of the public error object, all by keyword
        self,
        slug: Slug,
        message: str,
        *,
        seen: Sequence[str] = (),
        expected: Sequence[str] = (),
        next: Sequence[str] = (),  # noqa: A002 - the public JSON key
        retry_after: int | None = None,
        quota_used: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = CATALOGUE[slug]
        if self.kind.family is not type(self):
            raise TypeError(f"{slug} is raised as {self.kind.family.__name__}, not {type(self).__name__}")
        self.message = message
        self.seen = tuple(seen)
        self.expected = tuple(expected)
        self.next = (*next, f"certctl explain {slug}")
        self.retry_after = retry_after
        self.quota_used = quota_used

    @property
    def slug(self) -> Slug:
        """Return the slug, the stable public name of this kind of failure."""
        return self.kind.slug

    def after_spending(self) -> "CertctlError":
        """Return the same error with ``quota_used``, for a domain that had its certificate from the CA already."""
        return type(self)(
            self.slug, self.message, seen=self.seen, expected=self.expected, next=self.next[:-1],
            retry_after=self.retry_after, quota_used=True,
        )  # fmt: skip


class Internal(CertctlError):
    """Several items failed for different reasons, or certctl itself is wrong."""


class NameRejected(CertctlError):
    """The text is not an acceptable domain name."""

    exit_code = ExitCode.USAGE


class NotReady(CertctlError):
    """The domain's DNS or CAA does not allow a certificate yet.

    Attributes:
        facts: What its sentences are rendered from; empty where party 1 has no more than the sentences.
    """

    exit_code = ExitCode.NOT_READY
    facts = DnsFacts()


class NotApproved(CertctlError):
    """The operator said no."""

    exit_code = ExitCode.NOT_APPROVED


class Refused(CertctlError):
    """The CA refused, its validation failed, or what it returned is not usable."""

    exit_code = ExitCode.REFUSED


class RateLimited(CertctlError):
    """Too many requests, by the CA's count or by our own."""

    exit_code = ExitCode.RATE_LIMITED


class WebServerFailed(CertctlError):
    """nginx did not take the change; the previous configuration is back."""

    exit_code = ExitCode.WEB_SERVER


class Busy(CertctlError):
    """Another run holds the lock."""

    exit_code = ExitCode.BUSY


class Unreachable(CertctlError):
    """Something certctl depends on gave no answer."""

    exit_code = ExitCode.UNREACHABLE


class ConfigInvalid(CertctlError):
    """The configuration, or the host around it, is not what certctl needs."""

    exit_code = ExitCode.CONFIG


class Interrupted(CertctlError):
    """The user or the service manager stopped the run."""

    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, slots=True)
class Kind:
    """The facts that hold for every error with one slug; code tells errors apart by these, never by the slug.

    Attributes:
        slug: Its public name.
        family: The class it is raised as, which has the exit code.
        who: The person or party who has to act.
        retryable: The same command can succeed later.
        summary: What happened, in half a line.
        at_ca: What it cost at the CA.
        waits_for: What must come first; None where something was tried.
        blames_host: This host keeps a certificate from nginx; it is over once that is served.
        may_be_one_sites: It may be about one site only: the others are tried without it.
        may_be_misread: The check that found it may be wrong: it does not stop a domain that is live.
        is_remembered: It is written into the store; False where nothing was tried, or no moment is certain.
        is_unexplained: certctl does not know the cause: what the engine logged is kept for a person to read.
        heeds_retry_after: The CA's Retry-After says when the same request can succeed.
        keeps_change: What was tested stays: nginx reads it when it starts.
        predates_change: nginx's files were broken before our change: it is tried again if ours can be mended.
        is_store_behind: The store lacks what nginx serves, so its files are not changed.
    """

    slug: Slug
    family: type[CertctlError]
    who: Who
    retryable: bool
    summary: str
    at_ca: AtCa = AtCa.NOTHING
    waits_for: WaitsFor | None = None
    blames_host: bool = False
    may_be_one_sites: bool = False
    may_be_misread: bool = False
    is_remembered: bool = True
    is_unexplained: bool = False
    heeds_retry_after: bool = False
    keeps_change: bool = False
    predates_change: bool = False
    is_store_behind: bool = False


_CUSTOMER, _OPERATOR, _CA, _NOBODY = Who.CUSTOMER, Who.OPERATOR, Who.CA, Who.NOBODY

_KINDS = (
    Kind(Slug.INTERNAL, Internal, _OPERATOR, False, "a bug in certctl"),
    Kind(Slug.SERVE_ENDED, Internal, _OPERATOR, True, "a process of the daemon was killed"),
    # Names. The parser refuses them before anyone is asked anything.
    Kind(Slug.USAGE, NameRejected, _OPERATOR, False, "the command line is wrong"),
    Kind(Slug.NAME_EMPTY, NameRejected, _OPERATOR, False, "the name is empty"),
    Kind(Slug.NAME_EMPTY_LABEL, NameRejected, _OPERATOR, False, "two dots in a row, or a leading dot"),
    Kind(Slug.NAME_TOO_LONG, NameRejected, _OPERATOR, False, "longer than 253 characters"),
    Kind(Slug.NAME_LABEL_TOO_LONG, NameRejected, _OPERATOR, False, "a label is longer than 63 characters"),
    Kind(Slug.NAME_TOO_MANY_LABELS, NameRejected, _OPERATOR, False, "more than 10 labels"),
    Kind(Slug.NAME_CHARSET, NameRejected, _OPERATOR, False, "a character no host name may contain"),
    Kind(Slug.NAME_SPACE, NameRejected, _OPERATOR, False, "white space in or around the name"),
    Kind(Slug.NAME_CONTROL, NameRejected, _OPERATOR, False, "a control character in the name"),
    Kind(Slug.NAME_FORMAT, NameRejected, _OPERATOR, False, "an invisible formatting character in the name"),
    Kind(Slug.NAME_CODEPOINT, NameRejected, _OPERATOR, False, "an unassigned, private or broken code point"),
    Kind(Slug.NAME_UNICODE_DOT, NameRejected, _OPERATOR, False, "a Unicode dot that is not a full stop"),
    Kind(Slug.NAME_COMPAT, NameRejected, _OPERATOR, False, "a character that only looks like another"),
    Kind(Slug.NAME_IDNA, NameRejected, _OPERATOR, False, "not valid under IDNA 2008"),
    Kind(Slug.NAME_PUNYCODE, NameRejected, _OPERATOR, False, "an xn-- label that does not decode cleanly"),
    Kind(Slug.NAME_HYPHEN, NameRejected, _OPERATOR, False, "a label begins or ends with a hyphen"),
    Kind(Slug.NAME_RESERVED_LABEL, NameRejected, _OPERATOR, False, "'--' in the third and fourth place"),
    Kind(Slug.NAME_WILDCARD, NameRejected, _OPERATOR, False, "wildcards are for 'certctl wildcard' only"),
    Kind(Slug.NAME_NOT_WILDCARD, NameRejected, _OPERATOR, False, "a wildcard must be '*.' and a zone"),
    Kind(Slug.NAME_IP, NameRejected, _OPERATOR, False, "an IP address or something read as one"),
    Kind(Slug.NAME_SINGLE_LABEL, NameRejected, _OPERATOR, False, "a host name without a domain"),
    Kind(Slug.NAME_SPECIAL_USE, NameRejected, _OPERATOR, False, "a special-use name no public CA signs"),
    Kind(Slug.NAME_NOT_PUBLIC, NameRejected, _OPERATOR, False, "no such public top-level domain"),
    Kind(Slug.NAME_PUBLIC_SUFFIX, NameRejected, _OPERATOR, False, "a public suffix, owned by nobody alone"),
    Kind(Slug.NAME_OWN_ZONE, NameRejected, _OPERATOR, False, "a name in the operator's own zone"),
    # Party 1: DNS.
    Kind(Slug.DNS_NO_SUCH_NAME, NotReady, _CUSTOMER, True, "the domain does not exist in DNS"),
    Kind(Slug.DNS_NO_DATA, NotReady, _CUSTOMER, True, "the domain exists but has no CNAME or address"),
    Kind(Slug.DNS_CNAME_MISMATCH, NotReady, _CUSTOMER, True, "the CNAME points somewhere else"),
    Kind(Slug.DNS_ADDRESS_MISMATCH, NotReady, _CUSTOMER, True, "the addresses are not ours"),
    Kind(Slug.DNS_STRAY_IPV6, NotReady, _CUSTOMER, True, "an AAAA record that is not ours"),
    Kind(Slug.DNS_CNAME_LOOP, NotReady, _CUSTOMER, True, "the CNAME chain loops or is too long"),
    Kind(Slug.DNS_SERVFAIL, NotReady, _CUSTOMER, True, "the domain's nameservers fail to answer"),
    Kind(Slug.DNS_DISAGREE, NotReady, _CUSTOMER, True, "the domain's nameservers do not agree"),
    Kind(Slug.CAA_FORBIDS, NotReady, _CUSTOMER, True, "a CAA record forbids our CA"),
    Kind(Slug.CAA_SERVFAIL, NotReady, _CUSTOMER, True, "the CAA question fails, which stops every CA"),
    Kind(Slug.DNS_DELEGATION, NotReady, _OPERATOR, True, "_acme-challenge is a CNAME the plugin cannot follow"),
    Kind(Slug.DNS_UNREACHABLE, Unreachable, _NOBODY, True, "no resolver answered in time"),
    Kind(Slug.DNS_TARGET_BROKEN, Unreachable, _OPERATOR, True, "our own target does not resolve"),
    # Party 2: the operator's approval endpoint.
    Kind(Slug.APPROVAL_REFUSED, NotApproved, _OPERATOR, False, "the approval endpoint said no"),
    Kind(Slug.APPROVAL_DENIED_LOCALLY, NotApproved, _OPERATOR, False, "the domain is on the local deny list"),
    Kind(Slug.REMOVED_LATELY, NotApproved, _OPERATOR, True, "the domain was removed minutes ago, by you"),
    Kind(Slug.APPROVAL_UNREACHABLE, Unreachable, _OPERATOR, True, "the approval endpoint gave no answer"),
    Kind(Slug.APPROVAL_APPROVES_EVERYTHING, ConfigInvalid, _OPERATOR, False, "the endpoint approves unknown names"),
    # Party 3: the CA.
    Kind(Slug.CA_DNS, Refused, _CUSTOMER, True, "the CA could not resolve the domain", at_ca=AtCa.VALIDATION),
    Kind(Slug.CA_CONNECTION, Refused, _OPERATOR, True, "the CA could not reach port 80", at_ca=AtCa.VALIDATION),
    Kind(Slug.CA_UNAUTHORIZED, Refused, _OPERATOR, True, "the CA was shown the wrong challenge answer",
         at_ca=AtCa.VALIDATION),
    Kind(Slug.CA_CAA, Refused, _CUSTOMER, True, "the CA found a CAA record that forbids it", at_ca=AtCa.VALIDATION),
    Kind(Slug.CA_REJECTED_IDENTIFIER, Refused, _OPERATOR, False, "the CA does not issue for this name",
         at_ca=AtCa.ATTEMPT),
    Kind(Slug.CA_REFUSED, Refused, _OPERATOR, False, "the CA refused the order", at_ca=AtCa.ATTEMPT),
    Kind(Slug.CA_ACCOUNT, Refused, _OPERATOR, False, "the CA did not accept the account", at_ca=AtCa.ATTEMPT),
    Kind(Slug.CA_BAD_CERTIFICATE, Refused, _CA, False, "the CA returned a certificate we did not ask for",
         at_ca=AtCa.UNSURE),
    Kind(Slug.CA_UNRECOGNISED, Refused, _OPERATOR, True, "certbot failed in a way certctl does not know",
         at_ca=AtCa.UNSURE, is_unexplained=True),
    Kind(Slug.CA_CHALLENGE_MISSING, Refused, _OPERATOR, False, "the CA does not offer this kind of challenge",
         at_ca=AtCa.ATTEMPT),
    Kind(Slug.CA_CHALLENGE_ABORTED, Refused, _OPERATOR, True, "the challenge was given up before the CA asked",
         at_ca=AtCa.ATTEMPT),
    Kind(Slug.CERTBOT_KILLED, Internal, _OPERATOR, True, "certbot was killed by a signal", at_ca=AtCa.CUT_SHORT),
    Kind(Slug.CA_RATE_LIMITED, RateLimited, _CA, True, "the CA asks us to wait",
         at_ca=AtCa.ATTEMPT, heeds_retry_after=True),
    Kind(Slug.CA_PAUSED, RateLimited, _OPERATOR, False, "the CA paused this name for our account",
         at_ca=AtCa.ATTEMPT),
    Kind(Slug.BUDGET_EXHAUSTED, RateLimited, _NOBODY, True, "our own ledger says the CA would refuse",
         waits_for=WaitsFor.BUDGET),
    Kind(Slug.BACKING_OFF, RateLimited, _NOBODY, True, "it failed recently; the next try is later",
         waits_for=WaitsFor.REST, is_remembered=False),
    Kind(Slug.CA_UNREACHABLE, Unreachable, _CA, True, "the CA gave no usable answer",
         at_ca=AtCa.ATTEMPT, heeds_retry_after=True),
    Kind(Slug.CA_TIMEOUT, Unreachable, _CA, True, "the CA did not finish in time", at_ca=AtCa.UNSURE),
    Kind(Slug.CA_BAD_NONCE, Unreachable, _CA, True, "the CA kept refusing our nonces", at_ca=AtCa.ATTEMPT),
    # Party 4: nginx.
    Kind(Slug.NGINX_MISSING, WebServerFailed, _OPERATOR, False, "the nginx binary cannot be run", blames_host=True),
    Kind(Slug.NGINX_NOT_RUNNING, WebServerFailed, _OPERATOR, True, "nginx is not running",
         blames_host=True, keeps_change=True),
    Kind(Slug.NGINX_CHALLENGE_INTERCEPTED, WebServerFailed, _OPERATOR, True, "port 80 shows the CA something else",
         blames_host=True, may_be_one_sites=True, may_be_misread=True),
    Kind(Slug.NGINX_ALREADY_BROKEN, WebServerFailed, _OPERATOR, False, "nginx's test failed before our change",
         blames_host=True, predates_change=True),
    Kind(Slug.NGINX_TEST_FAILED, WebServerFailed, _OPERATOR, False, "nginx refused our server block",
         blames_host=True, may_be_one_sites=True),
    Kind(Slug.NGINX_CONFLICT, WebServerFailed, _OPERATOR, False, "another file already serves this name",
         blames_host=True, may_be_one_sites=True),
    Kind(Slug.NGINX_NOT_INCLUDED, WebServerFailed, _OPERATOR, False, "nginx does not include our directory",
         blames_host=True, may_be_misread=True),
    Kind(Slug.NGINX_RELOAD_FAILED, WebServerFailed, _OPERATOR, True, "nginx kept its old configuration",
         blames_host=True, may_be_one_sites=True),
    Kind(Slug.NGINX_NOT_SERVED, WebServerFailed, _OPERATOR, True, "the new certificate was not served",
         blames_host=True, may_be_one_sites=True),
    Kind(Slug.NGINX_CANNOT_TEST, WebServerFailed, _OPERATOR, True, "nginx's test cannot run with these rights",
         blames_host=True),
    Kind(Slug.NGINX_TIMEOUT, WebServerFailed, _OPERATOR, True, "nginx's test did not end in time",
         blames_host=True),
    # This host, and certctl itself.
    Kind(Slug.BUSY, Busy, _NOBODY, True, "another run holds the lock", blames_host=True),
    Kind(Slug.SERVE_BUSY, Busy, _NOBODY, True, "more first visitors than certctl takes on at once"),
    Kind(Slug.STORE_UNREACHABLE, Unreachable, _OPERATOR, True, "the store cannot be read or written"),
    Kind(Slug.STORE_KNOWS_LESS, Unreachable, _OPERATOR, False, "nginx serves what the store does not know",
         is_store_behind=True),
    Kind(Slug.STORE_ROW_DAMAGED, ConfigInvalid, _OPERATOR, False, "what the store has of one domain is damaged"),
    Kind(Slug.STATE_UNWRITABLE, ConfigInvalid, _OPERATOR, False, "certctl's own files cannot be written",
         blames_host=True, may_be_one_sites=True),
    Kind(Slug.NEEDS_ROOT, ConfigInvalid, _OPERATOR, False, "whoever ran the command may not do what it does"),
    Kind(Slug.CONFIG_INVALID, ConfigInvalid, _OPERATOR, False, "the configuration has mistakes"),
    Kind(Slug.CONFIG_UNREADABLE, ConfigInvalid, _OPERATOR, False, "the configuration file cannot be read"),
    Kind(Slug.UNKNOWN_DOMAIN, ConfigInvalid, _OPERATOR, False, "certctl has nothing under this name"),
    Kind(Slug.CLOCK_WRONG, ConfigInvalid, _OPERATOR, True, "this host's clock and the CA's do not agree",
         is_remembered=False),
    Kind(Slug.MISSING_PROGRAM, ConfigInvalid, _OPERATOR, False, "a program certctl needs is not installed"),
    Kind(Slug.MISSING_ACCOUNT, ConfigInvalid, _OPERATOR, False, "a system user or group certctl needs is missing",
         blames_host=True),
    Kind(Slug.KEYS_OUT_OF_REACH, ConfigInvalid, _OPERATOR, False, "nginx's workers may not read keys in this mode",
         blames_host=True),
    Kind(Slug.WILDCARD_MANUAL, ConfigInvalid, _OPERATOR, True, "this wildcard is renewed by a person",
         waits_for=WaitsFor.PERSON),
    Kind(Slug.WILDCARD_NOT_BEGUN, ConfigInvalid, _OPERATOR, False, "no order of a wildcard waits to be finished"),
    Kind(Slug.TIMER_CONFLICT, ConfigInvalid, _OPERATOR, False, "another timer renews the same names"),
    Kind(Slug.TIMER_FAILED, ConfigInvalid, _OPERATOR, False, "the renewal timer cannot be set up on this host"),
    Kind(Slug.SERVE_FAILED, ConfigInvalid, _OPERATOR, False, "the daemon cannot be set up on this host"),
    Kind(Slug.SANDBOX_FAILED, ConfigInvalid, _OPERATOR, True, "the sandbox did not come up"),
    Kind(Slug.INTERRUPTED, Interrupted, _NOBODY, True, "the run was stopped", is_remembered=False),
)  # fmt: skip

CATALOGUE = {kind.slug: kind for kind in _KINDS}


def kind_of(text: str | None) -> Kind | None:
    """Return the kind of error with this slug; None for a slug that this version does not know."""
    return CATALOGUE[Slug(text)] if text in CATALOGUE else None


def unforeseen(problem: BaseException) -> CertctlError:
    """Return the error for an unexpected exception: an ``OSError`` is the host's fault, any other is our bug."""
    error: CertctlError
    if isinstance(problem, OSError):
        where = f" {problem.filename}" if problem.filename else ""
        error = ConfigInvalid(
            Slug.STATE_UNWRITABLE, f"{problem.strerror or problem}{where}", next=["certctl doctor"]
        )
    else:
        said = f"{type(problem).__name__}: {problem}"
        error = Internal(Slug.INTERNAL, said, next=["run it again with -vv and send us that"])
    error.__cause__ = problem
    return error
