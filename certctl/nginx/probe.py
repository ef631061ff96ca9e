"""Prove that the catch-all works before anybody depends on it: by a name that is nobody's."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path

from certctl.domain import NOBODY, Domain
from certctl.io.clock import Deadline
from certctl.io.files import make_directory, remove_tree
from certctl.nginx import handshake, mirror
from certctl.nginx.handshake import Seen
from certctl.nginx.refusals import not_served
from certctl.nginx.settings import NginxSettings
from certctl.values import Mode

_PATIENCE = timedelta(seconds=2)
_ASKED = 3


def prove(settings: NginxSettings) -> None:
    """Shake hands for nobody's name, which for a moment has some site's certificate.

    Nothing is proven in mode ``blocks``, or while there is no certificate on this host. A site whose pair is broken
    does not decide: others are asked.

    Raises:
        WebServerFailed: ``nginx-not-served``.
    """
    homes = islice(_homes(settings.live), _ASKED) if settings.mode is not Mode.BLOCKS else ()
    seen = [_look(settings, home) for home in homes]
    if seen and all(seen):
        raise not_served("the catch-all does not serve what is in the mirror", seen[0], "the certificate", settings)


def _homes(live: Path) -> Iterator[Path]:
    for home in live.iterdir():
        if not home.name.startswith((".", "_")) and home.name != NOBODY.name and (home / mirror.CURRENT).exists():
            yield home


def _look(settings: NginxSettings, home: Path) -> Seen | None:
    """Return what was seen instead of a site's certificate; None when it was seen."""
    expected = mirror.fingerprints(settings.live, Domain(home.name))
    with _borrowed(settings, home):
        return handshake.wait_until(
            settings, [NOBODY.name], lambda seen: seen.fingerprint in expected, Deadline.after(_PATIENCE)
        )


@contextmanager
def _borrowed(settings: NginxSettings, home: Path) -> Iterator[None]:
    """Let nobody's name lead to another's certificate; the key is not copied."""
    nobody = mirror.domain_path(settings.live, NOBODY)
    remove_tree(nobody)
    try:
        make_directory(nobody, settings.rights.directory)
        (nobody / mirror.CURRENT).symlink_to(Path("..", home.name, mirror.CURRENT))
        yield
    finally:
        remove_tree(nobody)
