"""The long text behind each error slug, from ``certctl/explain.md`` (one heading a slug)."""

import re
from functools import cache
from importlib.resources import files


def explanation(slug: str) -> str:
    """Return the text under ``## slug``."""
    return _sections().get(slug, "")


@cache
def _sections() -> dict[str, str]:
    text = files("certctl").joinpath("explain.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ([a-z0-9-]+)\n", text, flags=re.MULTILINE)
    return {slug: body.strip() for slug, body in zip(parts[1::2], parts[2::2], strict=True)}
