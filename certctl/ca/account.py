"""The ACME account of this host (RFC 8555 §7.1.2): registered once, used by every order, replaced only when lost.

certbot makes and reads it (``accounts/<host>/<path>/<id>/{regr,private_key,meta}.json``). CAs allow ten new
accounts in three hours from one address (Let's Encrypt), so making one is guarded by a lock and counted.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from acme.messages import RegistrationResource
from josepy.errors import Error as JoseError
from josepy.jwk import JWK

from certctl.ca.account_files import account_directory, candidates, find_accounts, read_account
from certctl.ca.engines.certbot import argv
from certctl.ca.engines.certbot.command import find_certbot, retry_bad_nonce, run_certbot
from certctl.ca.errors import classify
from certctl.ca.settings import CaSettings
from certctl.ca.workdir import WorkingDirectory
from certctl.errors import Refused
from certctl.io.files import make_directory, writing
from certctl.io.locks import inheritable_lock
from certctl.slugs import Slug

MOST_REPLACED = 5
_COUNTED = timedelta(hours=3)
_PRIVATE_DIRECTORY = 0o700


def ensure_account(settings: CaSettings, now: datetime, *, lost: str | None = None) -> str:
    """Return the id of our account at this CA; register one when there is none.

    certbot inherits the lock's descriptor: when certctl is killed while certbot registers, the next run waits for
    it.

    Args:
        settings: Names the CA and the email.
        now: The current time, from which the CA's ``Retry-After`` counts.
        lost: The id of an account the CA does not know (``accountDoesNotExist``); its files are moved to
            ``quarantine``, unless another run has done so already.

    Raises:
        Refused, RateLimited, Unreachable: the CA did not make an account.
        Busy: another run is registering and does not end.
        ConfigInvalid: there is no usable certbot to make one with.
    """
    lock = inheritable_lock(settings.acme_dir / "account.lock", settings.wait, "the ACME account")
    with lock as descriptor:
        if lost is not None and lost in find_accounts(settings):
            _set_aside(settings, account_directory(settings) / lost)
        for broken in _broken(settings):
            _set_aside(settings, broken)
        accounts = find_accounts(settings)
        return accounts[0] if accounts else _register(settings, now, descriptor)


@dataclass(frozen=True)
class Account:
    """The key and the resource (RFC 8555 §7.1.2) of an account that certbot registered."""

    key: JWK
    resource: RegistrationResource


def load_account(settings: CaSettings, account: str) -> Account:
    """Return an account from its files; a caller keeps it, as checking an RSA key takes 40 ms.

    Raises:
        Refused: ``ca-account``, the files cannot be read.
    """
    directory = account_directory(settings) / account
    try:
        key = JWK.json_loads((directory / "private_key.json").read_text(encoding="utf-8"))
        resource = RegistrationResource.json_loads((directory / "regr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, JoseError) as error:
        raise Refused(Slug.CA_ACCOUNT, f"the files of our account at the CA cannot be read: {directory}") from error
    return Account(key, resource)


def _register(settings: CaSettings, now: datetime, lock: int) -> str:
    workdir = WorkingDirectory(settings.acme_dir / "registration")
    workdir.make(settings)
    command = argv.register(find_certbot(settings), settings, workdir)
    engine_result = retry_bad_nonce(lambda: run_certbot(command, settings, workdir, lock))
    accounts = find_accounts(settings)
    if not accounts:
        raise classify(engine_result, "the account", now, registering=True)
    workdir.remove()
    return accounts[0]


def _broken(settings: CaSettings) -> list[Path]:
    broken = [account for account in candidates(settings) if read_account(settings, account) is None]
    return [account_directory(settings) / account for account in broken]


def _set_aside(settings: CaSettings, account: Path) -> None:
    """Move an unusable account out of certbot's sight, into ``quarantine``; its key is kept for the operator.

    Raises:
        Refused: ``ca-account``, too many accounts were set aside lately, so a new one would not help.
    """
    aside = settings.acme_dir / "quarantine"
    with writing(aside):
        make_directory(aside, _PRIVATE_DIRECTORY)
        recent = [path for path in aside.iterdir() if abs(_age(path)) < _COUNTED]
        if len(recent) >= MOST_REPLACED:
            raise Refused(
                Slug.CA_ACCOUNT,
                f"the CA's account was lost {len(recent)} times in three hours: certctl makes no more for now",
                seen=[f"set aside in {aside}"],
                retry_after=int(_COUNTED.total_seconds()),
            )
        account.rename(aside / f"{account.name}.{time.time_ns()}")


def _age(path: Path) -> timedelta:
    set_aside = path.suffix.removeprefix(".")
    return timedelta(seconds=time.time() - int(set_aside) / 1e9) if set_aside.isdecimal() else timedelta(0)
