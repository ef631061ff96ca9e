"""The checks of ``certctl doctor`` for nginx (party 4): files, the program, the master, and real requests."""

import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from certctl.domain import CHECK_DOMAIN, Domain
from certctl.errors import CertctlError, ConfigInvalid
from certctl.io import accounts
from certctl.nginx import access, foresee, mainconf
from certctl.nginx.base import CERTIFICATE_CACHE, base_files
from certctl.nginx.command import ConfigTest, NginxCommand
from certctl.nginx.master import Master
from certctl.nginx.serverblock import Version, is_edited, is_ours, owner_of, read
from certctl.nginx.service import name_of
from certctl.nginx.settings import NginxSettings
from certctl.nginx.transaction import last_reload
from certctl.values import Done, Finding, Level, Mode

_OLDEST = (1, 20, 0)  # -e came with 1.19.5, ssl_reject_handshake with 1.19.4 (nginx CHANGES)
_AREA = "nginx"
_MANY_BLOCKS = 1_000  # a reload took 1.6 s then, and 245 MB (nginx 1.22.1, OpenSSL 3.0)
_SLOW_RELOAD = 5.0
_UNREGISTERED = (
    CHECK_DOMAIN,
    Domain("certctl-check.example.com"),
)  # RFC 6761 §6.4 and §6.5; the second looks like a customer's
_HOW = "docs/how-to/choose-a-mode.md"


def examine(
    settings: NginxSettings, command: NginxCommand, master: Master, answers: Sequence[Finding]
) -> list[Finding]:
    """Return findings about the program, the test, the running master, the include line and our files.

    ``answers`` are the findings of ``answers()``, which asked nginx over the network.
    """
    try:
        version = command.version
    except CertctlError as error:
        return [_problem(error.message, error.next[0])]
    verdict = command.test()
    return [
        _version(version),
        *_running(settings, command, master, answers),
        _test(verdict, settings),
        *_included(settings, command, verdict),
        *_base(settings, command),
        *_files(settings),
        *_pages(settings),
        *_reach(settings),
        *_mode(settings, command, master),
    ]


def _version(version: tuple[int, int, int]) -> Finding:
    text = "nginx " + ".".join(map(str, version))
    if version < _OLDEST:
        return _problem(f"{text} is too old: certctl needs 1.20", "upgrade nginx")
    return _fine(text)


def _running(
    settings: NginxSettings, command: NginxCommand, master: Master, answers: Sequence[Finding]
) -> Iterator[Finding]:
    """Yield ``answers``: nginx's own answers decide whether it runs; its master only matters for the reload."""
    if pid := master.pid():
        yield _fine(f"running, master process {pid}")
    elif os.geteuid() == 0 and not settings.reload_command and any(each.level is Level.OK for each in answers):
        where = mainconf.pid_file(settings.config, command.build)
        text = f"nginx answers, and {where} names no nginx master: it could not be reloaded"
        yield Finding(_AREA, Level.WARNING, text, "mend the line pid in nginx's main file, or set [nginx] reload")
    yield from answers


def _test(verdict: ConfigTest, settings: NginxSettings) -> Finding:
    if not verdict.ok:
        fix = "run certctl doctor as root" if verdict.is_environment else f"{settings.binary} -t"
        if "lua_shared_dict" in verdict.fault:
            fix = "apt-get install libnginx-mod-http-lua"
        if "duplicate default server" in verdict.fault:
            others = ", ".join(place for place, _ in foresee.clashes(settings)) or "the other file"
            fix = f"take default_server out of {others}; {settings.base_path} needs it"
        return _problem(f"the configuration does not pass its test: {verdict.fault}", fix)
    if verdict.conflicts:
        names = ", ".join(sorted(verdict.conflicts)[:5])
        return Finding(_AREA, Level.WARNING, f"several server blocks have the name {names}", "nginx -T")
    return _fine("the configuration passes its test")


def _included(settings: NginxSettings, command: NginxCommand, verdict: ConfigTest) -> Iterator[Finding]:
    """Yield whether nginx includes our directory; its configuration can only be read while it is valid."""
    if not verdict.ok:
        return
    dump = command.dump()
    if mainconf.includes(dump, settings.config, settings.conf_dir):
        yield _fine(f"reads {settings.conf_dir}")
    else:
        yield _problem(
            f"does not read {settings.conf_dir}",
            f"add to the http block of {settings.config}: include {settings.conf_dir}/*.conf;",
        )
    if not settings.base_path.exists():
        yield from _clash(settings)


def _clash(settings: NginxSettings) -> Iterator[Finding]:
    """Yield a problem when the operator's default server would clash with our base file's (Debian ships one)."""
    for place, words in foresee.clashes(settings):
        yield _problem(
            f"{place} has 'listen {words}'; certctl's base file must be the default server there",
            f"take default_server out of {place}",
        )


def _base(settings: NginxSettings, command: NginxCommand) -> Iterator[Finding]:
    if read(settings.base_path) is None:
        yield _problem(f"{settings.base_path} is missing: nothing answers the CA's challenges", "certctl init")
        return
    try:
        wanted = base_files(settings, command)
    except CertctlError as error:
        yield _problem(error.message, "certctl config show")
        return
    for path, text in wanted.items():
        if text == read(path):
            if text is not None:
                yield _fine(f"{path} is in place")
        else:
            yield Finding(_AREA, Level.WARNING, f"{path} differs from what certctl writes", "certctl init")


def _files(settings: NginxSettings) -> Iterator[Finding]:
    blocks = 0
    for path in sorted(settings.conf_dir.glob("*.conf")):
        text = read(path) if path.is_file() else None
        if path == settings.base_path or text is None or not is_ours(text):
            continue
        blocks += 1
        if is_edited(text):
            owner = owner_of(text)
            fix = f"certctl publish {owner}" if owner else "certctl reconcile"
            yield Finding(_AREA, Level.WARNING, f"{path} was edited by hand or is damaged", fix)
    yield from size(settings, blocks)


def _pages(settings: NginxSettings) -> Iterator[Finding]:
    """Yield a warning when customers' domains would show an error: neither upstream, template nor index.html."""
    page = settings.site_root / "index.html"
    with suppress(PermissionError):  # then it is not for us to say
        if not (settings.upstream or settings.template or page.is_file()):
            text = f"customers' domains show an error: there is no {page}"
            yield Finding(
                _AREA, Level.WARNING, text, "put the pages there, or set [nginx] root or [nginx] upstream"
            )


def _reach(settings: NginxSettings) -> Iterator[Finding]:
    """Yield a warning for each directory above the challenges that nginx's workers (not root) cannot enter."""
    for place in (settings.challenges, *settings.challenges.parents):
        try:
            mode = stat.S_IMODE(place.stat().st_mode)
        except OSError:
            continue
        if not mode & stat.S_IXOTH:
            yield Finding(
                _AREA,
                Level.WARNING,
                f"{place} has mode {mode:04o}: nginx's workers may not get through to the challenges",
                f"chmod o+x {place}",
            )


class AnsweringNginx(Protocol):
    """The requests to nginx that its checks make."""

    def require_challenge(self, domain: Domain) -> Done:
        """Raise when nginx would not answer the CA's challenge for a domain."""
        ...

    def require_tls(self) -> Done:
        """Raise when nginx speaks no TLS."""
        ...


def answers(web: AnsweringNginx, names: Sequence[Domain]) -> Iterator[Finding]:
    """Yield findings about the CA's challenges, asked for unregistered names and some customers', and about TLS."""
    summary, intercepted = "", list[CertctlError]()
    for name in (*_UNREGISTERED, *names):
        try:
            summary = web.require_challenge(name).summary
        except ConfigInvalid as error:
            text = f"whether nginx answers the CA's challenges was not tried: {error.message}"
            yield Finding(_AREA, Level.WARNING, text, "sudo certctl doctor --fix")
            break
        except CertctlError as error:
            if not error.kind.may_be_one_sites:
                yield _said(error)
                return
            intercepted.append(error)
    if intercepted:
        yield _said(intercepted[-1])  # of a served name where there is one
    elif summary:
        some = f" and {len(names)} of customers" if names else ""
        yield Finding(_AREA, Level.OK, f"{summary}: tried for {len(_UNREGISTERED)} names that are nobody's{some}")
    yield _tls(web)


def _tls(web: AnsweringNginx) -> Finding:
    try:
        return Finding(_AREA, Level.OK, web.require_tls().summary)
    except CertctlError as error:
        return _said(error)


def _said(error: CertctlError) -> Finding:
    return Finding(_AREA, Level.PROBLEM, "; ".join((error.message, *error.seen)), error.next[0])


def size(settings: NginxSettings, blocks: int) -> Iterator[Finding]:
    """Yield the number of server blocks, what a reload costs, and which mode would cost less."""
    seconds = last_reload(settings.live)
    text = f"{blocks} server blocks" + (f"; the last reload took {seconds:.2f} s" if seconds is not None else "")
    if blocks > _MANY_BLOCKS or (seconds or 0) > _SLOW_RELOAD:
        costs = "certctl init --mode shared, or lua: then a name costs no reload"
        yield Finding(_AREA, Level.WARNING, text, f"{costs} ({_HOW})" if blocks else "a newer nginx and OpenSSL")
    else:
        yield Finding(_AREA, Level.OK, text)


def _mode(settings: NginxSettings, command: NginxCommand, master: Master) -> Iterator[Finding]:
    """Yield problems of a catch-all: workers must read keys, and other processes of their user must not."""
    if settings.mode is Mode.BLOCKS:
        return
    yield Finding(_AREA, Level.OK, f"mode {settings.mode}: {_cost(settings.mode, command.version)}")
    if settings.template:
        text = f"the catch-all does not use [nginx] template {settings.template}"
        yield Finding(_AREA, Level.WARNING, text, "certctl issue --mode blocks DOMAIN, for those that need it")
    meant = access.configured(settings, command, master)
    workers = access.running(master) or [meant.identity]
    if not all(worker.may_read(settings) for worker in workers):
        text = f"workers cannot read keys: they are not in the group {settings.group}, by {meant.line}"
        reload = f"systemctl reload {name_of(master.pid(), settings.binary)}"
        fix = f"{meant.line_for(settings)} in {settings.config}, then {reload}"
        yield Finding(_AREA, Level.PROBLEM, text, fix)
        return
    yield Finding(_AREA, Level.OK, f"workers may read keys, by {meant.line}")
    yield from _others(settings, {worker.uid for worker in workers})


def _others(settings: NginxSettings, uids: set[int]) -> Iterator[Finding]:
    """Yield a warning for each user of the workers that is in the keys' group: all its processes can read keys."""
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


def _fine(text: str) -> Finding:
    return Finding(_AREA, Level.OK, text)


def _problem(text: str, fix: str) -> Finding:
    return Finding(_AREA, Level.PROBLEM, text, fix)
