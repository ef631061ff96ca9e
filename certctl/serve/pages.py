"""The HTML pages for visitors: they load nothing from elsewhere and reveal nothing about other customers."""

from html import escape

from certctl.serve.answers import Answer, Kind

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
  body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem }}
</style>
<h1>{title}</h1>
<p>{text}</p>
</html>
"""
_WORDS = {
    Kind.REFUSED: (
        "There is no page here",
        "No page is set up at {name}. If it is yours, ask your provider; a change in DNS may take some minutes.",
    ),
    Kind.RESTING: (
        "This page is not ready yet",
        "A secure connection to {name} could not be set up. It is tried again later, without your doing anything.",
    ),
    Kind.PREPARING: (
        "This page is being prepared",
        "A secure connection to {name} is being set up. This takes a few seconds, once; the page comes by itself.",
    ),
}
_LATER = ("This page is not ready yet", "{name} cannot be looked up right now. Please try again in a moment.")
_COMES_BY_ITSELF = frozenset({Kind.PREPARING, Kind.UNSURE, Kind.BUSY})

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def page(answer: Answer, host: str) -> tuple[str, dict[str, str]]:
    """Return the page about a host that is not served, and its HTTP headers."""
    title, text = _WORDS.get(answer.kind, _LATER)
    headers = dict(HEADERS)
    if answer.kind is not Kind.REFUSED:
        headers["Retry-After"] = str(answer.seconds)
    if answer.kind in _COMES_BY_ITSELF:
        headers["Refresh"] = str(answer.seconds)
    return _PAGE.format(title=title, text=text.format(name=escape(host or "this address"))), headers
