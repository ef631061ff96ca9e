"""The settings of the CA (party 3), and the checks of what they name."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.formats import KeyType, is_secure
from certctl.io.fsuid import acting_as
from certctl.slugs import Slug


@dataclass(frozen=True, slots=True)
class CaSettings:
    """The ``[ca]`` section, with the directories of the CA's files (party 3).

    Attributes:
        directory: The URL of the CA's ACME directory (RFC 8555 §7.1.1).
        acme_dir: The directory of the shared account and of one working directory per order, 0700.
        challenges: The directory of HTTP-01 tokens, which nginx serves.
        ca_file: The root certificate trusted for the CA's HTTPS instead of the public roots, for a private CA.
        email: The contact of the account (RFC 8555 §7.1.2); may be empty.
        profile: The certificate profile to order by (draft-ietf-acme-profiles); empty leaves the choice to the CA.
        key_type: The kind of private key.
        certbot: The certbot to run; by default the one installed beside our interpreter.
        deadline: The limit of one order; when it passes, certbot's process group is killed.
        wait: The longest wait for a lock that another run holds.
    """

    directory: str
    acme_dir: Path
    challenges: Path
    ca_file: Path | None = None
    email: str = ""
    profile: str = ""
    key_type: KeyType = "ecdsa-p256"
    certbot: Path | None = None
    deadline: timedelta = timedelta(seconds=180)
    wait: timedelta = timedelta(seconds=180)

    @property
    def accounts(self) -> Path:
        """Return the directory of certbot's accounts, shared by all orders."""
        return self.acme_dir / "accounts"

    @property
    def work(self) -> Path:
        """Return the directory that holds one working directory for each order."""
        return self.acme_dir / "work"


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What one order asks for; an interrupted order is resumed only for an equal request."""

    directory: str
    profile: str
    key_type: KeyType
    names: tuple[str, ...]


def order_request_for(domain: Domain, settings: CaSettings) -> OrderRequest:
    """Return the request for a domain: its name, and for a wildcard the zone as well."""
    return OrderRequest(settings.directory, settings.profile, settings.key_type, domain.names)


def require_usable(settings: CaSettings) -> None:
    """Require settings by which the CA can be asked, before any failure counts as the CA's answer.

    Raises:
        ConfigInvalid: an unsafe directory URL, or a ``ca_file`` that cannot be read.
    """
    require_safe_directory(settings.directory)
    if settings.ca_file:
        require_readable(settings.ca_file, "[ca] ca_file")


def require_safe_directory(url: str) -> None:
    """Refuse a directory URL of plain HTTP, which RFC 8555 §6.1 forbids; loopback is allowed.

    Raises:
        ConfigInvalid: the URL is neither https nor on loopback.
    """
    parts = urlsplit(url)
    # The URL also names the directory of the account, so it must not climb out of it.
    if is_secure(parts) and ".." not in parts.path.split("/"):
        return
    raise ConfigInvalid(
        Slug.CONFIG_INVALID,
        f"[ca] directory must be an https:// URL, not {url!a}",
        expected=["https://acme-v02.api.letsencrypt.org/directory"],
    )


def require_readable(path: Path, key: str) -> None:
    """Require that a file can be read now: an engine that fails to would look as if the CA had refused.

    Raises:
        ConfigInvalid: ``config-invalid``, with the command that opens the file.
    """
    try:
        if not path.is_dir():  # a directory of hashed certificates does as well (requests, ``verify``)
            path.open("rb").close()
    except OSError as error:
        raise cannot_read(path, key, error, "chmod a+r") from error


def cannot_read(path: Path, key: str, error: OSError, mend: str) -> ConfigInvalid:
    """Return the error for an unreadable file, with the ``mend`` command unless a directory above is closed."""
    message = f"{key}: cannot read {path}: {error.strerror}"
    reader = acting_as()
    if reader is None or not isinstance(error, PermissionError):
        return ConfigInvalid(Slug.CONFIG_INVALID, message)
    expected = f"a file that user {reader.uid} can read, who owns certctl's state"
    closed = next((above for above in reversed(path.parents) if not _lets_in(above)), None)
    if closed is not None:
        return ConfigInvalid(Slug.CONFIG_INVALID, message, expected=[f"{expected}, and not below {closed}"])
    return ConfigInvalid(Slug.CONFIG_INVALID, message, expected=[expected], next=[f"{mend} {path}"])


def _lets_in(directory: Path) -> bool:
    try:
        os.stat(f"{directory}/.")  # noqa: PTH116 - a Path loses the dot, and with it the question
    except PermissionError:
        return False
    except OSError:
        return True
    return True
