"""Refuse a domain when its row in the store cannot be read; no value is guessed, and other domains go on."""

from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.stories.quota import command_for
from certctl.values import DomainRow


def require_readable(row: DomainRow | None, *, insists: bool = False) -> None:
    """Refuse a domain whose row is damaged, unless the operator insists: a new certificate makes the row whole.

    Raises:
        ConfigInvalid: ``store-row-damaged``.
    """
    if row and row.damage and not insists:
        raise damaged(row)


def damaged(row: DomainRow) -> ConfigInvalid:
    """Return the error for a domain with a damaged row."""
    return ConfigInvalid(
        Slug.STORE_ROW_DAMAGED,
        f"the store's row of {row.domain} is damaged; it is served as before, and not renewed",
        seen=[row.damage],
        next=[mending(row), f"certctl remove {row.domain}"],
    )


def mending(row: DomainRow) -> str:
    """Return the command that makes a damaged row whole."""
    return f"{command_for(row.domain)} --force"
