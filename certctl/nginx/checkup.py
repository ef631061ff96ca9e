"""What ``certctl doctor`` says about the way nginx serves: whether it works here, and whether it still fits."""

import pwd
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from certctl.domain import NOBODY, Domain
from certctl.errors import CertctlError, ConfigInvalid
from certctl.io import accounts
from certctl.nginx import access
from certctl.nginx.base import CERTIFICATE_CACHE
from certctl.nginx.command import NginxCommand
from certctl.nginx.guard import last_reload
from certctl.nginx.master import Master
from certctl.nginx.serverblock import Version
from certctl.nginx.service import name_of
from certctl.nginx.settings import NginxSettings
from certctl.values import Done, Finding, Level, Mode

_AREA = "nginx"
_MANY_BLOCKS = 1_000  # a reload took 1.6 s then, and 245 MB (nginx 1.22.1, OpenSSL 3.0)
_SLOW_RELOAD = 5.0
_INTERCEPTED = "nginx-challenge-intercepted"
_NOBODYS = (
    NOBODY,
    Domain("certctl-check.example.com"),
)  # RFC 6761 §6.4 and §6.5; the second looks like a customer's
_HOW = "docs/how-to/choose-a-mode.md"


class Asked(Protocol):
    """nginx, for whoever asks it."""

    def require_challenge(self, domain: Domain) -> Done:
        """Raise where the CA's challenge for a domain would not be answered."""
        ...

    def require_tls(self) -> Done:
        """Raise where no TLS is spoken."""
        ...


def answers(web: Asked, names: Sequence[Domain]) -> Iterator[Finding]:
    """Ask nginx for the challenge of names that are nobody's and of some that are somebody's, and for TLS."""
    summary, intercepted = "", list[CertctlError]()
    for name in (*_NOBODYS, *names):
        try:
            summary = web.require_challenge(name).summary
        except ConfigInvalid as error:
            text = f"whether nginx answers the CA's challenges was not tried: {error.message}"
            yield Finding(_AREA, Level.WARNING, text, "sudo certctl doctor --fix")
            break
        except CertctlError as error:
            if error.slug != _INTERCEPTED:
                yield _said(error)
                return
            intercepted.append(error)
    if intercepted:
        yield _said(intercepted[-1])  # of a served name where there is one
    elif summary:
        some = f" and {len(names)} of customers" if names else ""
        yield Finding(_AREA, Level.OK, f"{summary}: tried for {len(_NOBODYS)} names that are nobody's{some}")
    yield _tls(web)


def _tls(web: Asked) -> Finding:
    try:
        return Finding(_AREA, Level.OK, web.require_tls().summary)
    except CertctlError as error:
        return _said(error)


def _said(error: CertctlError) -> Finding:
    return Finding(_AREA, Level.PROBLEM, "; ".join((error.message, *error.seen)), error.next[0])


def size(settings: NginxSettings, blocks: int) -> Iterator[Finding]:
    """Say how many server blocks there are, what a reload costs, and which mode would cost less."""
    seconds = last_reload(settings.live)
    text = f"{blocks} server blocks" + (f"; the last reload took {seconds:.2f} s" if seconds is not None else "")
    if blocks > _MANY_BLOCKS or (seconds or 0) > _SLOW_RELOAD:
        costs = "certctl init --mode shared, or lua: then a name costs no reload"
        yield Finding(_AREA, Level.WARNING, text, f"{costs} ({_HOW})" if blocks else "a newer nginx and OpenSSL")
    else:
        yield Finding(_AREA, Level.OK, text)


def mode(settings: NginxSettings, command: NginxCommand, master: Master) -> Iterator[Finding]:
    """Look at what a catch-all needs: workers that may read keys, and nobody else of their user."""
    if settings.mode is Mode.BLOCKS:
        return
    yield Finding(_AREA, Level.OK, f"mode {settings.mode}: {_cost(settings.mode, command.version)}")
    if settings.template:
        text = f"the catch-all does not use [nginx] template {settings.template}"
        yield Finding(_AREA, Level.WARNING, text, "certctl issue --mode blocks DOMAIN, for those that need it")
    line, configured = access.configured(settings, command, master)
    workers = access.running(master) or [configured]
    if not all(worker.may_read(settings) for worker in workers):
        text = f"workers cannot read keys: they are not in the group {settings.group}, by {line}"
        user = line.split()[1].removesuffix(";")
        reload = f"systemctl reload {name_of(master.pid(), settings.binary)}"
        fix = f"user {user} {settings.group}; in {settings.config}, then {reload}"
        yield Finding(_AREA, Level.PROBLEM, text, fix)
        return
    yield Finding(_AREA, Level.OK, f"workers may read keys, by {line}")
    yield from _others(settings, {worker.uid for worker in workers})


def _others(settings: NginxSettings, uids: set[int]) -> Iterator[Finding]:
    """Find users all of whose processes have the group, such as PHP beside nginx."""
    owner = accounts.find(settings.user, settings.group)
    for uid in uids - {0, owner.uid if owner else 0}:
        with suppress(KeyError):
            name = pwd.getpwuid(uid).pw_name
            if owner and owner.gid in accounts.groups_of(name):
                text = f"every process of {name} may read keys: the user is a member of {settings.group}"
                yield Finding(_AREA, Level.WARNING, text, f"gpasswd --delete {name} {settings.group}")


def _cost(mode: Mode, version: Version) -> str:
    if mode is Mode.LUA:
        return "a worker keeps parsed certificates, and a first handshake waits for its certificate"
    if version >= CERTIFICATE_CACHE:
        return "a worker keeps parsed certificates"
    return "each handshake parses its certificate (mode lua and nginx 1.27.4 keep them parsed)"
