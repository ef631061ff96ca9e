"""The checks of ``certctl doctor`` for the CA (party 3); of the CA itself only the directory is fetched."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from certctl.ca.account_files import account_directory, find_accounts
from certctl.ca.directory import Directory
from certctl.ca.engines.certbot.command import INSTALL, find_certbot, has_our_plugin, version_of
from certctl.ca.settings import CaSettings, require_usable
from certctl.errors import CertctlError, ConfigInvalid
from certctl.values import Finding, Level

_AREA = "ca"
_SYSTEM_CLI_INI = Path("/etc/letsencrypt/cli.ini")
_HARMLESS = ("max-log-backups", "preconfigured-renewal")  # what Debian's package writes


def examine(settings: CaSettings, directory: Directory) -> Sequence[Finding]:
    """Return findings about the CA's directory, certbot, our plugin, the account, and foreign certbot options."""
    return [
        *_directory(settings, directory),
        *_certbot(settings),
        *_account(settings),
        *_foreign_options(),
    ]


def _directory(settings: CaSettings, directory: Directory) -> Iterator[Finding]:
    try:
        require_usable(settings)
    except ConfigInvalid as error:
        yield Finding(_AREA, Level.PROBLEM, error.message, next(iter((*error.next, *error.expected)), ""))
        return
    yield Finding(_AREA, Level.OK, f"the CA's directory is {settings.directory}")
    try:
        yield Finding(_AREA, Level.OK, directory.require_ready().summary)
    except CertctlError as error:
        fix = "look whether this host reaches it, and at [ca] directory and [ca] ca_file"
        fix = error.next[0] if isinstance(error, ConfigInvalid) else fix  # it is this host's clock
        yield Finding(_AREA, Level.PROBLEM, "; ".join((error.message, *error.seen)), fix)
        return
    if directory.lacks_profile:
        text = f"the CA does not offer the profile {settings.profile}: it would refuse every order"
        yield Finding(_AREA, Level.PROBLEM, text, "certctl config show")


def _certbot(settings: CaSettings) -> Iterator[Finding]:
    try:
        program = find_certbot(settings)
        version = ".".join(map(str, version_of(settings, program)))
        program.open("rb").close()
    except ConfigInvalid as error:
        yield Finding(_AREA, Level.PROBLEM, error.message, INSTALL)
        return
    except OSError as error:
        yield Finding(_AREA, Level.PROBLEM, f"certbot cannot be run: {error.filename}: {error.strerror}", INSTALL)
        return
    yield Finding(_AREA, Level.OK, f"certbot {version} at {program}")
    if has_our_plugin(settings):
        yield Finding(_AREA, Level.OK, "certbot sees certctl's authenticator")
    else:
        fix = f"in a checkout of certctl: {sys.executable} -m pip install --force-reinstall --no-deps ."
        yield Finding(_AREA, Level.PROBLEM, "certbot does not see certctl's authenticator", fix)


def _account(settings: CaSettings) -> Iterator[Finding]:
    accounts = find_accounts(settings)
    if not accounts:
        yield Finding(_AREA, Level.OK, "no ACME account yet: the first issue makes one")
    for account in accounts[:1]:
        key = account_directory(settings) / account / "private_key.json"
        mode = key.stat().st_mode & 0o777
        if mode & 0o077:
            text = f"the ACME account's key can be read by others (mode {mode:04o})"
            yield Finding(_AREA, Level.PROBLEM, text, f"chmod 0400 {key}")
        else:
            yield Finding(_AREA, Level.OK, f"ACME account {account}, key mode {mode:04o}")


def _foreign_options() -> Iterator[Finding]:
    """Yield a warning for certbot's host-wide ``cli.ini``: certbot always reads it, and nothing turns that off."""
    try:
        lines = _SYSTEM_CLI_INI.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    settings = [line.partition("=")[0].strip() for line in lines if line.strip() and line.strip()[0] not in "#;["]
    if foreign := [name for name in settings if name not in _HARMLESS]:
        text = f"{_SYSTEM_CLI_INI} sets {', '.join(foreign)} for every certbot on this host, also for certctl's"
        yield Finding(
            _AREA, Level.WARNING, text, f"look whether certctl's certbot should have them: {_SYSTEM_CLI_INI}"
        )
