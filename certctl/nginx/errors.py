"""The errors of nginx (party 4), each with what was seen and what to do next."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from shlex import quote

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.nginx.challenge import PLACE, Answer
from certctl.nginx.command import ConfigTest, files_with_default_server, lines_with_name
from certctl.nginx.handshake import HandshakeResult
from certctl.nginx.mainconf import ConfigLine
from certctl.nginx.master import ReloadResult, not_reached
from certctl.nginx.servers import Answering
from certctl.nginx.service import name_of
from certctl.nginx.settings import BASE_NAME, NginxSettings
from certctl.slugs import Slug

_NAMED = 3
_READ_ONLY = "failed (30: "  # EROFS: the disk as a service sees it, whose unit knows nginx's places as they were
_TAKEN = "(98: "  # EADDRINUSE: by nginx itself, where [nginx] listen or a port changed
_AS_ROOT = "run certctl as the user who starts nginx, usually root"


def test_failed(verdict: ConfigTest, dump: str, ours: AbstractSet[Path]) -> WebServerFailed:
    """Return the error for a file of ours that nginx refused, while it accepts all others.

    Args:
        verdict: The result of the test with our file.
        dump: The output of ``nginx -T`` without it.
        ours: The files of this change.
    """
    if "duplicate default server" in verdict.fault:
        others = [file for file in files_with_default_server(dump) if Path(file) not in ours]
        return WebServerFailed(
            Slug.NGINX_CONFLICT,
            "another file already is nginx's default server; certctl's base file must be it: there the CA asks "
            "about names that have no server block yet, and strangers are refused",
            seen=verdict.faults[:5],
            next=[*(f"take default_server out of {file}, or remove Debian's sample" for file in others)],
        )
    if "lua_shared_dict" in verdict.fault:
        return WebServerFailed(
            Slug.NGINX_TEST_FAILED,
            "nginx cannot run Lua here, which mode lua needs; the previous configuration is back",
            seen=verdict.faults[:5],
            next=["apt-get install libnginx-mod-http-lua", "certctl init --mode shared"],
        )
    return WebServerFailed(
        Slug.NGINX_TEST_FAILED,
        "nginx refused our server block; the previous configuration is back",
        seen=verdict.faults[:5],
        next=[_shown_by(verdict.where)],
    )


def _test_by_hand(settings: NginxSettings) -> str:
    """Return the command that tests the configuration file which certctl was told of."""
    return f"{settings.binary} -t -c {settings.config}"


def _shown_by(place: ConfigLine | None) -> str:
    """Return the command that prints a refused file of ours, which is not there any more."""
    file = Path(place.file) if place else Path()
    if file.suffix != ".conf" or file.name == BASE_NAME:
        return "certctl init --dry-run"
    return f"certctl publish --print {quote(file.stem.replace('_wildcard', '*'))}"


def conflict(name: str, dump: str, ours: AbstractSet[Path]) -> WebServerFailed:
    """Return the error for a name that another server block has, with its file where ``nginx -T`` shows it."""
    places = [place for place in lines_with_name(dump, name) if Path(place.file) not in ours]
    return WebServerFailed(
        Slug.NGINX_CONFLICT,
        f"another server block already has {name}: nginx would ignore one of the two",
        seen=[f"conflicting server name {name}", *(f"server_name {name} in {place}" for place in places[:5])],
        next=[f"take {name} out of {places[0].file}"] if places else [],
    )


def not_ours(path: Path) -> WebServerFailed:
    """Return the error for a file without our header that stands where ours belongs."""
    return WebServerFailed(
        Slug.NGINX_CONFLICT,
        f"{path} is not certctl's, so it is left alone",
        next=[f"move {path} somewhere else"],
    )


def not_served(
    message: str, seen: HandshakeResult | None, expected: str, settings: NginxSettings
) -> WebServerFailed:
    """Return the error for a handshake that did not show the expected certificate."""
    return WebServerFailed(
        Slug.NGINX_NOT_SERVED,
        f"{message} after {settings.confirm_deadline.total_seconds():g} s",
        seen=[seen.text] if seen else [],
        expected=[expected],
        next=["certctl reconcile", "certctl doctor"],
    )


def _some(domains: Sequence[Domain]) -> str:
    more = f" and {len(domains) - _NAMED} more" if domains[_NAMED:] else ""
    return ", ".join(map(str, domains[:_NAMED])) + more


def only_behind_catch_all(domains: Sequence[Domain]) -> WebServerFailed:
    """Return the error for a base file that would no longer serve names without a server block."""
    return WebServerFailed(
        Slug.NGINX_NOT_SERVED,
        f"mode blocks would not serve {_some(domains)}: only the catch-all does, so it stays",
        expected=["a server block for each"],
        next=["certctl init --mode blocks", "certctl status --all"],
    )


def intercepted(name: str, answer: Answer, by: Answering | None, settings: NginxSettings) -> WebServerFailed:
    """Return the error for a challenge that something other than certctl's location answers."""
    if not by:
        way = ["sudo certctl doctor"]
    elif Path(by.place.file).parent == settings.conf_dir:
        way = [f"look in the http block of {settings.config} for what answers before certctl's location does"]
    else:
        way = [f"give the server block at {by.place} certctl's challenge location, or take {name} out of it"]
    return WebServerFailed(
        Slug.NGINX_CHALLENGE_INTERCEPTED,
        f"port {settings.http_port} of this host does not show the CA the challenge of {name}",
        seen=[f"GET {PLACE}… for {name}: {answer.text}", *([by.text] if by else [])],
        expected=[f"what lies in {settings.challenges}, by the location in {settings.base_path}"],
        next=[*way, "certctl doctor"],
    )


def unanswered(answer: Answer, why: str, settings: NginxSettings) -> WebServerFailed:
    """Return the error for an nginx that did not answer over HTTP."""
    if answer.refused:
        return not_reached(settings, why, seen=answer.text)
    return WebServerFailed(
        Slug.NGINX_NOT_RUNNING,
        f"nginx takes connections and does not answer: {why}",
        seen=[answer.text],
        next=[f"systemctl status {name_of(None, settings.binary)}", "certctl doctor"],
    )


def no_tls(trouble: str, settings: NginxSettings) -> WebServerFailed:
    """Return the error for a port that speaks no TLS."""
    return WebServerFailed(
        Slug.NGINX_NOT_RUNNING,
        f"nginx does not speak TLS on port {settings.https_port}: no certificate could be served",
        seen=[trouble],
        next=["certctl init", "certctl doctor"],
    )


def reload_failed(outcome: ReloadResult) -> WebServerFailed:
    """Return the error for a reload that nginx did not carry out."""
    return WebServerFailed(
        Slug.NGINX_RELOAD_FAILED,
        "nginx passed its own test but kept its old configuration at the reload",
        seen=[outcome.said or f"no new worker took over within {outcome.seconds:.0f} s"],
        next=[*(["certctl reconcile --restart"] if _TAKEN in outcome.said else []), "certctl doctor"],
    )


def not_included(settings: NginxSettings, http_block: str = "") -> WebServerFailed:
    """Return the error for an nginx that does not include our directory.

    With ``http_block``, where the block begins, the operator must add the line: ``certctl init`` has tried.
    """
    line = f"include {settings.conf_dir}/*.conf;"
    by_hand = f"add the line '{line}' to the http block, after {http_block}; then repeat the command"
    return WebServerFailed(
        Slug.NGINX_NOT_INCLUDED,
        f"nginx does not read {settings.conf_dir}, so nothing of certctl's would be in force",
        expected=[f"{line} in the http block of {http_block or settings.config}"],
        next=[by_hand] if http_block else ["certctl init"],
    )


def already_broken(verdict: ConfigTest, settings: NginxSettings) -> WebServerFailed:
    """Return the error for a configuration that fails without our change."""
    if verdict.timed_out:
        return timed_out(settings)
    if verdict.is_environment:
        return cannot_test(verdict)
    ours = any(str(place) in verdict.fault for place in (settings.live, settings.sites, settings.conf_dir))
    return WebServerFailed(
        Slug.NGINX_ALREADY_BROKEN,
        "nginx's configuration does not pass its test without our change either"
        + (f": see {verdict.where}" if verdict.where else ""),
        seen=verdict.faults[:5],
        next=["certctl reconcile"] if ours else [_test_by_hand(settings)],
    )


def pair_gone(domains: Sequence[Domain]) -> WebServerFailed:
    """Return the error for server blocks without their pair, of names nginx serves until it starts again."""
    return WebServerFailed(
        Slug.NGINX_ALREADY_BROKEN,
        f"the pair of {_some(domains)} is gone, and the store has none: nginx serves it from its memory, and could "
        "not start again",
        next=[f"certctl remove {domains[0]}"],
    )


def pair_in_use(domain: Domain, place: ConfigLine) -> WebServerFailed:
    """Return the error for a name that cannot be removed, because another file names its pair."""
    return WebServerFailed(
        Slug.NGINX_CONFLICT,
        f"{domain} is still served: nginx could not start without its pair, which another file names",
        seen=[f"the pair of {domain} at {place}"],
        next=[f"take it out of {place.file}"],
    )


def cannot_test(verdict: ConfigTest) -> WebServerFailed:
    """Return the error for a test that this user or sandbox may not run."""
    in_a_service = ["certctl timer install", "certctl serve --install"]
    return WebServerFailed(
        Slug.NGINX_CANNOT_TEST,
        "nginx cannot test its configuration from here: that takes the rights and the space of its master",
        seen=verdict.faults[:5],
        next=in_a_service if _READ_ONLY in verdict.fault else [_AS_ROOT],
    )


def timed_out(settings: NginxSettings) -> WebServerFailed:
    """Return the error for a test that did not end."""
    return WebServerFailed(
        Slug.NGINX_TIMEOUT,
        f"nginx -t did not end within {settings.test_deadline.total_seconds():g} s",
        seen=["nginx -t resolves every host name in the configuration, and opens every log"],
        next=[_test_by_hand(settings)],
    )
