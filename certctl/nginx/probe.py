"""Prove that the catch-all works before anybody depends on it: by a name that is nobody's."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from certctl.domain import Domain
from certctl.io.clock import Deadline
from certctl.io.files import adopt, make_directory, remove_tree
from certctl.nginx import handshake, mirror
from certctl.nginx.refusals import not_served
from certctl.nginx.settings import NginxSettings
from certctl.values import Mode

_NOBODY = Domain("certctl-check.invalid")  # RFC 6761: no parser of ours lets it in, so it is no customer's
_PATIENCE = timedelta(seconds=2)


def prove(settings: NginxSettings) -> None:
    """Shake hands for nobody's name, which for a moment has some site's certificate.

    Nothing is proven in mode ``blocks``, or while there is no certificate on this host.

    Raises:
        WebServerFailed: ``nginx-not-served``.
    """
    some = _some_home(settings.live) if settings.mode is not Mode.BLOCKS else None
    if some is None:
        return
    expected = mirror.fingerprints(settings.live, Domain(some.name))
    with _borrowed(settings, some):
        deadline = Deadline.after(_PATIENCE)
        seen = handshake.wait_until(settings, [_NOBODY.name], lambda seen: seen.fingerprint in expected, deadline)
    if seen:
        raise not_served("the catch-all does not serve what is in the mirror", seen, "the certificate", settings)


def _some_home(live: Path) -> Path | None:
    homes = (home for home in live.iterdir() if not home.name.startswith((".", "_")))
    return next((home for home in homes if (home / mirror.CURRENT).exists() and home.name != _NOBODY.name), None)


@contextmanager
def _borrowed(settings: NginxSettings, home: Path) -> Iterator[None]:
    """Let nobody's name lead to another's certificate; the key is not copied."""
    nobody = mirror.domain_path(settings.live, _NOBODY)
    remove_tree(nobody)
    try:
        make_directory(nobody, settings.rights.directory)
        (nobody / mirror.CURRENT).symlink_to(Path("..", home.name, mirror.CURRENT))
        adopt(nobody / mirror.CURRENT)
        yield
    finally:
        remove_tree(nobody)
