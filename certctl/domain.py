"""The one parser for names that enter from anywhere.

Policy: ASCII is lower-cased and exactly one trailing dot removed; nothing else is ever stripped or mapped.
Unicode labels go through NFC and strict IDNA 2008 (RFC 5891), never through Python's ``idna`` codec, which
turns ``straße.de`` into another owner's ``strasse.de``. The limits (10 labels, no reserved LDH labels, no
public suffixes, a real top-level domain) are those of Let's Encrypt's policy (boulder ``policy/pa.go``).
"""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

from certctl.errors import NameRejected
from certctl.slugs import Slug

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_NAME = 253
MAX_LABEL = 63
MAX_LABELS = 10
_MAX_STEM = 200  # NAME_MAX is 255 bytes, and suffixes follow

_LDH = re.compile(r"[a-z0-9-]+")
_LOOKS_LIKE_IP = re.compile(r"[0-9]+|0x[0-9a-f]*")  # WHATWG URL: a host that "ends in a number" is IPv4
_UNICODE_DOTS = frozenset("\u3002\uff0e\uff61")
_NEVER_PUBLIC = ("localhost", "local", "invalid", "onion", "home.arpa", "in-addr.arpa", "ip6.arpa")
_STRAY = frozenset({"Cc", "Zs", "Zl", "Zp"})  # what a copied line may bring along
_PRIVATE_ONLY = ("test", "example", "internal")  # RFC 6761, RFC 9476: only with allow_private_names
_CATEGORY_SLUGS = {
    "Cc": Slug.NAME_CONTROL, "Cf": Slug.NAME_FORMAT,
    "Zs": Slug.NAME_SPACE, "Zl": Slug.NAME_SPACE, "Zp": Slug.NAME_SPACE,
    "Cs": Slug.NAME_CODEPOINT, "Cn": Slug.NAME_CODEPOINT, "Co": Slug.NAME_CODEPOINT,
}  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Domain:
    """A parsed name: A-labels, lower case, no trailing dot; ``*.`` in front only for a wildcard.

    Names from outside become a ``Domain`` through ``parse_domain`` or ``parse_wildcard`` and in no other way.
    """

    name: str
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return self.name

    @property
    def is_wildcard(self) -> bool:
        """Tell whether this is a wildcard name, ``*.ZONE``."""
        return self.name.startswith("*.")

    @property
    def zone(self) -> str:
        """Return the name without ``*.``."""
        return self.name.removeprefix("*.")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names its certificate is for: the name itself, and for a wildcard the zone as well."""
        return (self.name, self.zone) if self.is_wildcard else (self.name,)

    @property
    def directory(self) -> str:
        """Return the name of a directory, with ``_wildcard`` for ``*``: no domain has a ``_``, so none collide."""
        return self.name.replace("*", "_wildcard")

    @property
    def stem(self) -> str:
        """Return the name as the stem of a file name, short enough for any suffix (NAME_MAX 255)."""
        if len(self.directory) <= _MAX_STEM:
            return self.directory
        return f"{self.directory[: _MAX_STEM - 20]}~{sha256(self.name.encode()).hexdigest()[:16]}"


CHECK_DOMAIN = Domain("certctl-check.invalid")
"""The name that our own probes ask for (RFC 6761 §6.4); our parsers refuse it, so it is no customer's."""


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """Which names this operator takes on.

    Attributes:
        own_names: Names and zones that are the operator's; nothing at or below them is a customer's.
        allow_private_names: Admit ``.test`` and other top-level domains that are not public.
    """

    own_names: tuple[str, ...] = ()
    allow_private_names: bool = False


def parse_domain(text: str, policy: NamePolicy) -> Domain:
    """Parse a customer's domain name.

    Raises:
        NameRejected: with a slug ``name-…`` for the first rule broken, and the reason in words.
    """
    domain = _parse(text, policy)
    for own in policy.own_names:
        if domain.name == own or domain.name.endswith("." + own):
            raise NameRejected(
                Slug.NAME_OWN_ZONE,
                f"{domain} lies in the operator's own zone {own}: no customer can own it",
                next=["certctl config show"],
            )
    return domain


def parse_wildcard(text: str, policy: NamePolicy) -> Domain:
    """Parse ``*.ZONE`` for the operator's wildcard.

    Raises:
        NameRejected: with a slug ``name-…``.
    """
    _check_length(text)
    if not text.startswith("*.") or text in {"*.", "*.."}:
        raise NameRejected(Slug.NAME_NOT_WILDCARD, f"{text!a} is not a wildcard", expected=["*.example.com"])
    zone = _parse(text.removeprefix("*."), policy)
    return Domain("*." + zone.name, zone.warnings)


def registered_domain(domain: Domain) -> str:
    """Return the name the CA counts by: one label below the public suffix (Let's Encrypt rate limits)."""
    return str(_suffixes().privatesuffix(domain.zone) or domain.zone)


def delegated_by_registry(domain: Domain) -> str | None:
    """Return the name below a registry's suffix; None below a suffix that no registry has, such as ``internal``.

    Unlike ``registered_domain`` it passes over suffixes of private owners, such as ``github.io``.
    """
    return _registries().privatesuffix(domain.zone) or None


def _parse(text: str, policy: NamePolicy) -> Domain:
    _check_length(text)
    _check_characters(text)
    parts = text.removesuffix(".").split(".")
    if not all(parts):
        raise NameRejected(
            Slug.NAME_EMPTY_LABEL, f"{text!a} has an empty label: two dots in a row or a leading dot"
        )
    warnings: list[str] = []
    labels = [_a_label(part, warnings) for part in parts]
    name = ".".join(labels)
    if len(name) > MAX_NAME:
        raise NameRejected(Slug.NAME_TOO_LONG, f"the name is {len(name)} characters long; DNS allows {MAX_NAME}")
    if len(labels) > MAX_LABELS:
        raise NameRejected(Slug.NAME_TOO_MANY_LABELS, f"{name} has {len(labels)} labels; the CA signs at most 10")
    _check_public(name, labels, policy)
    return Domain(name, tuple(warnings))


def _check_length(text: str) -> None:
    """Refuse before any other work: IDNA and regular expressions are not for 100 kB of input (CVE-2024-3651)."""
    if not text:
        raise NameRejected(Slug.NAME_EMPTY, "the name is empty")
    if (length := len(text.removesuffix("."))) > MAX_NAME:
        raise NameRejected(Slug.NAME_TOO_LONG, f"the name is {length} characters long; DNS allows {MAX_NAME}")


def _check_characters(text: str) -> None:
    for character in text:
        if slug := _character_slug(character):
            shown = f"U+{ord(character):04X}" + (f" {character!r}" if character.isascii() else "")
            is_stray = unicodedata.category(character) in _STRAY
            hint = [f"remove {shown} and try again"] if is_stray else []
            raise NameRejected(slug, f"{text!a} contains {shown}", expected=hint)


def _character_slug(character: str) -> Slug | None:
    """Name the rule one character breaks, or None; labels are checked as a whole later."""
    if character in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.":
        return None
    if slug := _CATEGORY_SLUGS.get(unicodedata.category(character)):
        return slug
    if character == "*":
        return Slug.NAME_WILDCARD
    if character.isascii():
        return Slug.NAME_CHARSET
    if character in _UNICODE_DOTS:
        return Slug.NAME_UNICODE_DOT
    return Slug.NAME_COMPAT if unicodedata.normalize("NFKC", character) != character else None


def _a_label(part: str, warnings: list[str]) -> str:
    """Turn one label into its A-label (RFC 5890 §2.3.2.1), noting what a person should look at twice."""
    label = part.lower()
    if not label.isascii():
        label = _encode(label)
    if len(label) > MAX_LABEL:
        raise NameRejected(
            Slug.NAME_LABEL_TOO_LONG, f"a label is {len(label)} characters long; DNS allows {MAX_LABEL}"
        )
    if label.startswith("-") or label.endswith("-"):
        raise NameRejected(Slug.NAME_HYPHEN, f"the label {label!a} begins or ends with a hyphen")
    if not _LDH.fullmatch(label):
        raise NameRejected(Slug.NAME_CHARSET, f"the label {label!a} has a character no host name may contain")
    if label.startswith("xn--"):
        warnings.extend(_check_a_label(label))
    elif label[2:4] == "--":
        raise NameRejected(Slug.NAME_RESERVED_LABEL, f"the label {label!a} is reserved (RFC 5890): no CA signs it")
    return label


def _encode(label: str) -> str:
    import idna

    try:
        return idna.alabel(unicodedata.normalize("NFC", label)).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise NameRejected(
            Slug.NAME_IDNA,
            f"the label {label!a} is not valid under IDNA 2008: {error}",
            expected=["the registered xn-- form of the label, if there is one"],
        ) from error


def _check_a_label(label: str) -> list[str]:
    """Check that an xn-- label decodes and encodes back to itself; return warnings.

    Emoji labels fail IDNA 2008 yet CAs sign them, so a label of otherwise harmless symbols is only warned about.
    """
    import idna

    try:
        unicode_label = label.removeprefix("xn--").encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError) as error:
        raise NameRejected(Slug.NAME_PUNYCODE, f"the label {label!a} does not decode") from error
    try:
        if idna.alabel(unicode_label).decode("ascii") == label:
            return [f"the label {label} stands for {unicode_label!a}: look twice, it may imitate another name"]
    except (idna.IDNAError, UnicodeError):
        clean = all(_character_slug(c) is None for c in unicode_label) and any(
            unicodedata.category(c) == "So" for c in unicode_label
        )
        if clean and "xn--" + unicode_label.encode("punycode").decode("ascii") == label:
            return [f"the label {label} is not valid under IDNA 2008; the CA may refuse it"]
    raise NameRejected(Slug.NAME_PUNYCODE, f"the label {label!a} does not decode to a name it may stand for")


def _check_public(name: str, labels: list[str], policy: NamePolicy) -> None:
    if _LOOKS_LIKE_IP.fullmatch(labels[-1]):
        raise NameRejected(Slug.NAME_IP, f"{name} is, or would be read as, an IP address")
    if len(labels) == 1:
        raise NameRejected(Slug.NAME_SINGLE_LABEL, f"{name!a} is a host name without a domain")
    special = _NEVER_PUBLIC if policy.allow_private_names else (*_NEVER_PUBLIC, *_PRIVATE_ONLY)
    if any(name == s or name.endswith("." + s) for s in special):
        raise NameRejected(Slug.NAME_SPECIAL_USE, f"{name} is a special-use name: no public CA signs it")
    suffix = _suffixes().publicsuffix(name, accept_unknown=policy.allow_private_names)
    if suffix is None:
        raise NameRejected(Slug.NAME_NOT_PUBLIC, f"{name}: there is no public top-level domain {labels[-1]!a}")
    if suffix == name:
        raise NameRejected(Slug.NAME_PUBLIC_SUFFIX, f"{name} is a public suffix: everyone registers names below it")


@cache
def _suffixes() -> "PublicSuffixList":
    """Load the public suffix list that the package carries; no network."""
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


@cache
def _registries() -> "PublicSuffixList":
    """Load the ICANN section of the list: suffixes of registries alone."""
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=False, only_icann=True)
