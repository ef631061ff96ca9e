"""The files of accounts, as certbot writes them: ``accounts/<host>/<path>/<id>/{regr,private_key,meta}.json``.

They are read without certbot's libraries here, which take long to load and check each key.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from certctl.ca.settings import CaSettings
from certctl.io.files import entered, open_regular

_FILES = {"private_key.json": "kty", "regr.json": "uri", "meta.json": "creation_dt"}
_MOST = 100_000


def account_directory(settings: CaSettings) -> Path:
    """Return certbot's directory of the accounts at this CA: named by host and path of the directory URL."""
    parts = urlsplit(settings.directory)
    return settings.accounts / parts.netloc / parts.path.strip("/")


def candidates(settings: CaSettings) -> list[str]:
    """Return the ids of all accounts at this CA, the broken ones too, in alphabetical order."""
    directory = account_directory(settings)
    return sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


def find_accounts(settings: CaSettings) -> list[str]:
    """Return the ids of the accounts that have all their files, in alphabetical order."""
    return [account for account in candidates(settings) if read_account(settings, account) is not None]


def account_uri(settings: CaSettings) -> str:
    """Return the URL of the account that an order would use (RFC 8555 §7.1.2).

    It is empty where there is none yet, and for a user who may not look.
    """
    with suppress(OSError):
        for account in candidates(settings):
            if content := read_account(settings, account):
                return str(content["regr.json"]["uri"])
    return ""


def read_account(settings: CaSettings, account: str) -> dict[str, dict[str, Any]] | None:
    """Return an account's files by name; None unless each has its required key, as after a crash or on a full disk.

    No link is followed on the way: in modes ``shared`` and ``lua`` the state is another user's than root's.
    """
    top = settings.acme_dir.parent
    place = (account_directory(settings) / account).relative_to(top)
    content = dict[str, dict[str, Any]]()
    try:
        with entered(top, *place.parts) as home:
            for name, required in _FILES.items():
                with open_regular(name, home) as file:
                    content[name] = json.loads(file.read(_MOST))
                if not isinstance(content[name], dict) or not content[name].get(required):
                    return None
    except (OSError, ValueError):
        return None
    return content
