"""Write a challenge's TXT records by DNS UPDATE (RFC 2136), signed with TSIG (RFC 8945).

certbot's own plugin writes to the literal ``_acme-challenge`` name; where that is a CNAME, the record must stand at
its end, and this writes there. It reads the same credentials file as the plugin (certbot-dns-rfc2136 5.8).
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import dns.exception
import dns.query
import dns.rcode
import dns.tsigkeyring
from dns.update import UpdateMessage

from certctl.errors import ConfigInvalid, Unreachable
from certctl.slugs import Slug
from certctl.values import DnsSolver

_PREFIX = "dns_rfc2136_"
_TTL = 60
_TIMEOUT = timedelta(seconds=10)


class ZoneUpdates:
    """Adds and removes TXT records at the server that the credentials file names."""

    def __init__(self, credentials: Path) -> None:
        self._file = credentials

    @classmethod
    def of(cls, solver: DnsSolver) -> "ZoneUpdates":
        """Return the updates with a solver's credentials."""
        return cls(Path(dict(solver.options).get("credentials", "")))

    def add(self, zone: str, owner: str, values: Sequence[str]) -> None:
        """Add TXT records beside those that stand there.

        Raises:
            ConfigInvalid: the credentials are wrong, or the server refuses the change.
            Unreachable: ``dns-unreachable``, the server does not answer.
        """

        def add(update: UpdateMessage) -> None:
            for value in values:
                update.add(f"{owner}.", _TTL, "TXT", f'"{value}"')

        self._send(zone, owner, add)

    def remove(self, zone: str, owner: str, values: Sequence[str]) -> None:
        """Remove these TXT records and no others; a missing one is no error.

        Raises:
            ConfigInvalid, Unreachable: as ``add``.
        """

        def delete(update: UpdateMessage) -> None:
            for value in values:
                update.delete(f"{owner}.", "TXT", f'"{value}"')

        self._send(zone, owner, delete)

    def _send(self, zone: str, owner: str, change: Callable[[UpdateMessage], None]) -> None:
        words = self._words()
        try:
            update = self._update(zone, words)
            change(update)
            where, port = words["server"], int(words.get("port", "53"))
            answer = dns.query.tcp(update, where, port=port, timeout=_TIMEOUT.total_seconds())
        except (dns.exception.DNSException, ValueError, KeyError) as error:
            raise self._refused(owner, f"{type(error).__name__}: {error}") from error
        except (OSError, EOFError) as error:
            raise Unreachable(
                Slug.DNS_UNREACHABLE, f"the nameserver in {self._file} did not take an update: {error}"
            ) from error
        if answer.rcode() != dns.rcode.NOERROR:
            raise self._refused(owner, dns.rcode.to_text(answer.rcode()))

    @staticmethod
    def _update(zone: str, words: dict[str, str]) -> UpdateMessage:
        algorithm = words.get("algorithm", "HMAC-MD5").lower()
        keyring = dns.tsigkeyring.from_text({words["name"]: words["secret"]})
        name = "HMAC-MD5.SIG-ALG.REG.INT" if algorithm == "hmac-md5" else algorithm
        return UpdateMessage(f"{zone}.", keyring=keyring, keyalgorithm=name)

    def _words(self) -> dict[str, str]:
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(Slug.CONFIG_INVALID, f"credentials: cannot read {self._file}: {error}") from error
        pairs = [line.partition("=") for line in lines if line.strip().startswith(_PREFIX)]
        return {key.strip().removeprefix(_PREFIX): value.strip().strip("\"'") for key, _, value in pairs}

    def _refused(self, owner: str, why: str) -> ConfigInvalid:
        return ConfigInvalid(
            Slug.CONFIG_INVALID,
            f"the nameserver in {self._file} did not change {owner}: {why}",
            expected=[f"a TSIG key that may write TXT records at {owner}"],
        )
