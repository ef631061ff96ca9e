"""Make text from outside safe to show: one line, no control, format or bidi characters, bounded."""

import unicodedata

_LIMIT = 2000
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def one_line(text: str, limit: int = _LIMIT) -> str:
    """Escape everything that could move a cursor, reorder text, forge a line or fill a screen.

    What DNS, HTTP, ACME, certbot or nginx said passes through here before a terminal or a log sees it
    (measured: certbot 5.8 prints a CA's ESC sequences raw).
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text  # nearly everything; a table of ten thousand rows is made of it
    cut = text[:limit]
    safe = "".join(c if unicodedata.category(c) not in _UNSAFE else _escape(c) for c in cut)
    return safe + (f"… ({len(text) - limit} more characters)" if len(text) > limit else "")


def lines(text: str, limit: int = 40) -> list[str]:
    """Return the last ``limit`` lines of a text that are not blank, each escaped."""
    return [one_line(line) for line in text.splitlines() if line.strip()][-limit:]


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
