"""DNS-01 by a DNS plugin of certbot's: certbot writes the TXT records, waits, and removes them."""

import re
import stat
import sys
from importlib import metadata
from pathlib import Path

from certctl.ca.settings import CaSettings, cannot_read
from certctl.errors import ConfigInvalid
from certctl.formats import DNS_PLUGIN, PLUGIN_OPTION, PLUGIN_VALUE
from certctl.io.fsuid import acting_as
from certctl.slugs import Slug
from certctl.values import DnsSolver

_GROUP = "certbot.plugins"


def authenticator(solver: DnsSolver) -> list[str]:
    """Return the certbot options that select a DNS plugin; no value can be read as another option.

    Raises:
        ConfigInvalid: a name or value that may not stand on a command line.
    """
    _check(DNS_PLUGIN, solver.plugin, "the name of a plugin")
    words = [f"--authenticator=dns-{solver.plugin}", "--preferred-challenges=dns-01"]
    for key, value in solver.options:
        _check(PLUGIN_OPTION, key, "an option of a plugin")
        _check(PLUGIN_VALUE, value, f"a value for {key}")
        words.append(f"--dns-{solver.plugin}-{key}={value}")
    return words


def require_plugin(solver: DnsSolver, settings: CaSettings) -> None:
    """Require that certbot has this plugin, before any order.

    Raises:
        ConfigInvalid: ``missing-program`` with the line that installs it; ``config-invalid`` when a file that it
            needs cannot be read by us, or can be read by others.
    """
    authenticator(solver)
    name = f"dns-{solver.plugin}"
    known = {point.name.rpartition(":")[2] for point in metadata.entry_points(group=_GROUP)}
    if settings.certbot is None and name not in known:
        raise ConfigInvalid(
            Slug.MISSING_PROGRAM,
            f"certbot has no plugin {name}",
            seen=[f"installed: {', '.join(sorted(n for n in known if n.startswith('dns-'))) or 'no DNS plugin'}"],
            next=[f"{sys.executable} -m pip install certbot-{name}"],
        )
    require_private_files(solver)


def require_private_files(solver: DnsSolver) -> None:
    """Require that the files of a solver exist, are readable by us, and by no other user.

    Raises:
        ConfigInvalid: ``config-invalid``.
    """
    for key, value in solver.options:
        if key.endswith("credentials"):
            _require_private(Path(value), key)


def _require_private(path: Path, key: str) -> None:
    try:
        facts = path.stat()
        path.read_bytes()
    except OSError as error:
        reader = acting_as()
        raise cannot_read(path, key, error, f"chown {reader.uid}" if reader else "") from error
    if not path.is_absolute() or not stat.S_ISREG(facts.st_mode):
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"{key}: {path} is not the absolute path of a file")
    if facts.st_mode & 0o077:
        raise ConfigInvalid(
            Slug.CONFIG_INVALID,
            f"{key}: others can read {path} (mode {stat.S_IMODE(facts.st_mode):04o})",
            next=[f"chmod 0600 {path}"],
        )


def _check(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"{text!a} cannot be {what}")
