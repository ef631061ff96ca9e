"""Strangers at a catch-all: whatever a client calls itself, it is shown its own certificate or none."""

import ast
import ssl
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from certctl.nginx.handshake import look
from certctl.values import Mode
from tests.raw_sni import offered_leaf
from tests.real_nginx import RealNginx, need, real_nginx

pytestmark = pytest.mark.e2e

GOOD = "good.example.com"
CATCH_ALLS = (Mode.SHARED, Mode.LUA)
CORPUS = Path(__file__).parents[1] / "hostile-domains.txt"

# Each would lead to a certificate if it got into a path as it is.
ESCAPES = [
    b"../outside",
    b"good.example.com/../../outside",
    b"./good.example.com",
    b"good.example.com/",
    b"good.example.com/current/../../good.example.com",
    b"good.example.com/1/..",
    b"/good.example.com",
    b"//good.example.com",
    b"live/good.example.com",
    b"outside.link",
    b"_wildcard.example.com",
    b"-",
    b".",
    b"..",
    b"*.example.com",
    b"good.example.com..",
    b".good.example.com",
    b"good..example.com",
    b"good.example.com.x",
    b"good.example.com\n",
    b"\ngood.example.com",
    b"good.example.com.\n",
    b"good.example.com\r\nx",
    b"good.example.com ",
    b"good.example.com;",
    b'good.example.com"',
    b"$ssl_server_name",
    b"${certctl_sni}",
    b"%2e%2e%2foutside",
    b"data:text",
    b"engine:x",
    b"x" * 64 + b".example.com",
    b"-good.example.com",
    b"good-.example.com",
    b"a." * 127 + b"b",
    ((b"c" * 63 + b".") * 4)[:255],
    b"\xff" * 255,
    bytes(range(1, 256)),
    "güt.example.com".encode(),
    b"127.0.0.1",
    b"::1",
]


def corpus() -> list[bytes]:
    """The names of the one list of hostile names that nginx could be sent: no NUL, 1 to 255 bytes."""
    names = list[bytes]()
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        fields = line.split("\t")
        if line.startswith("#") or len(fields) < 3 or "*" in fields[1].replace("'*", ""):
            continue
        name = str(ast.literal_eval(fields[1])).encode("utf-8", "surrogatepass")
        if 0 < len(name) <= 255 and b"\0" not in name:
            names.append(name)
    assert len(names) > 120
    return names


@pytest.fixture(params=CATCH_ALLS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealNginx]:
    """A catch-all with one customer, one wildcard, and certificates a path that escapes would find."""
    with real_nginx(tmp_path, mode=request.param, start=False) as nginx:
        put_offline(nginx)
        nginx.start(need("strace"), "-D", "-f", "-qq", "-o", str(tmp_path / "opened"), "-e", "trace=%file")
        yield nginx


def put_offline(host: RealNginx) -> None:
    good = host.site(GOOD)
    for name in ("live/good.example.com", "outside", "live/_wildcard.example.com"):
        home = host.root / name
        for version in (home / "current", home):
            version.mkdir(parents=True, exist_ok=True)
            (version / "fullchain.pem").write_text(good.pem.fullchain)
            (version / "privkey.pem").write_text(good.pem.private_key)


def show(host: RealNginx, name: bytes) -> str | None:
    leaf = offered_leaf(host.settings.https_port, name)
    return sha256(leaf).hexdigest() if leaf else None


def test_a_name_that_is_not_plain_is_refused_and_leads_nowhere(host: RealNginx) -> None:
    good = host.site(GOOD).certificate.fingerprint
    assert show(host, GOOD.encode()) == good
    shown = [name for name in (*ESCAPES, *corpus()) if show(host, name) is not None]
    assert shown == []
    assert show(host, GOOD.encode()) == good
    host.stop()
    opened = (host.root / "opened").read_text(encoding="ascii", errors="replace")
    paths = [line.split('"')[1] for line in opened.splitlines() if '.pem"' in line and "ENOENT" not in line]
    assert {str(Path(path).parent) for path in paths} == {str(host.settings.live / GOOD / "current")}


def test_one_trailing_dot_is_the_same_name_and_upper_case_where_lua_can_tell(host: RealNginx) -> None:
    good = host.site(GOOD).certificate.fingerprint
    assert show(host, b"good.example.com.") == good
    assert show(host, b"GOOD.Example.COM") == (good if host.settings.mode is Mode.LUA else None)


def test_a_client_that_names_nobody_is_refused(host: RealNginx) -> None:
    with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
        ssl.get_server_certificate(("127.0.0.1", host.settings.https_port), timeout=60)
    assert look(host.settings, GOOD).fingerprint == host.site(GOOD).certificate.fingerprint
