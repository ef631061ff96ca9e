"""What ``certctl doctor`` says about nginx: looks at everything, changes nothing."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from certctl.errors import CertctlError
from certctl.nginx import checkup, foresee, mainconf
from certctl.nginx.base import base_files
from certctl.nginx.command import NginxCommand, Verdict
from certctl.nginx.master import Master
from certctl.nginx.serverblock import is_edited, is_ours, owner_of, read
from certctl.nginx.settings import NginxSettings
from certctl.values import Finding, Level

_OLDEST = (1, 20, 0)  # -e came with 1.19.5, ssl_reject_handshake with 1.19.4 (nginx CHANGES)
_AREA = "nginx"


def examine(
    settings: NginxSettings, command: NginxCommand, master: Master, answers: Sequence[Finding]
) -> list[Finding]:
    """Look at the binary, the test, the running master, the include line and our own files.

    ``answers`` is what nginx said for itself when it was asked.
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
        *checkup.mode(settings, command, master),
    ]


def _version(version: tuple[int, int, int]) -> Finding:
    text = "nginx " + ".".join(map(str, version))
    if version < _OLDEST:
        return _problem(f"{text} is too old: certctl needs 1.20", "upgrade nginx")
    return _fine(text)


def _running(
    settings: NginxSettings, command: NginxCommand, master: Master, answers: Sequence[Finding]
) -> Iterator[Finding]:
    """Believe what nginx answers; its master is only who is told to reload."""
    if pid := master.pid():
        yield _fine(f"running, master process {pid}")
    elif os.geteuid() == 0 and not settings.reload_command and any(each.level is Level.OK for each in answers):
        where = mainconf.pid_file(settings.config, command.build)
        text = f"nginx answers, and {where} names no nginx master: it could not be reloaded"
        yield Finding(_AREA, Level.WARNING, text, "mend the line pid in nginx's main file, or set [nginx] reload")
    yield from answers


def _test(verdict: Verdict, settings: NginxSettings) -> Finding:
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


def _included(settings: NginxSettings, command: NginxCommand, verdict: Verdict) -> Iterator[Finding]:
    """Nginx shows its configuration only when it is valid; without that nothing can be said."""
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
    """Foresee the base file's clash with a default server of the operator's (Debian ships one)."""
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
    yield from checkup.size(settings, blocks)


def _pages(settings: NginxSettings) -> Iterator[Finding]:
    """Foresee a customer's domain on HTTPS that shows an error: nothing is there to show."""
    page = settings.site_root / "index.html"
    with suppress(PermissionError):  # then it is not for us to say
        if not (settings.upstream or settings.template or page.is_file()):
            text = f"customers' domains show an error: there is no {page}"
            yield Finding(
                _AREA, Level.WARNING, text, "put the pages there, or set [nginx] root or [nginx] upstream"
            )


def _reach(settings: NginxSettings) -> Iterator[Finding]:
    """Workers are not root: each directory on the way to the challenges must let them through."""
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


def _fine(text: str) -> Finding:
    return Finding(_AREA, Level.OK, text)


def _problem(text: str, fix: str) -> Finding:
    return Finding(_AREA, Level.PROBLEM, text, fix)
