"""The sandbox's approval endpoint: ``GET …/DOMAIN`` is answered from a file, read anew each time."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from certctl.errors import ConfigInvalid
from certctl.io.files import PUBLIC, write_atomic, writing
from certctl.slugs import Slug


class Mode(StrEnum):
    """How the endpoint behaves."""

    LIST = "list"
    YES = "yes"
    NO = "no"
    BROKEN = "500"
    HANG = "hang"
    REDIRECT = "redirect"


@dataclass(frozen=True, slots=True)
class Approvals:
    """The names of customers, and how the endpoint behaves."""

    mode: Mode = Mode.LIST
    approved: tuple[str, ...] = ()

    def approve(self, name: str) -> "Approvals":
        """Return these approvals with one more customer."""
        return replace(self, approved=tuple(sorted({*self.approved, name})))

    def revoke(self, name: str) -> "Approvals":
        """Return these approvals with one customer less."""
        return replace(self, approved=tuple(kept for kept in self.approved if kept != name))

    def status(self, name: str) -> int | None:
        """Return the HTTP status for a name; None for no response at all."""
        if self.mode is Mode.LIST:
            return 200 if name in self.approved else 404
        return {Mode.YES: 200, Mode.NO: 404, Mode.BROKEN: 500, Mode.REDIRECT: 302}.get(self.mode)


def load(file: Path) -> Approvals:
    """Return the approvals in a file.

    Raises:
        ConfigInvalid: it is not one of ours.
    """
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Approvals(Mode(data["mode"]), tuple(map(str, data["approved"])))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigInvalid(
            Slug.CONFIG_INVALID, f"{file} does not hold the sandbox's approvals: {error}"
        ) from error


def save(file: Path, approvals: Approvals) -> None:
    """Replace the file; the endpoint answers from it at once."""
    with writing(file):
        write_atomic(file, json.dumps(asdict(approvals), indent=1) + "\n", PUBLIC)


class _Endpoint(BaseHTTPRequestHandler):
    file: Path
    timeout = 60  # seconds; also ends a hang whose client does not

    def do_GET(self) -> None:
        name = unquote(self.path.rpartition("/")[2]).lower()
        try:
            status = load(self.file).status(name)
        except ConfigInvalid as error:
            print(error.message, file=sys.stderr, flush=True)  # noqa: T201 - a program of its own
            status = 500
        if status is None:
            self.connection.recv(1)  # until the other side has had enough
            self.close_connection = True
            return
        self.send_response(status)
        if status == 302:  # noqa: PLR2004
            self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal; print ``ready PORT`` once requests are accepted."""
    parser = argparse.ArgumentParser(prog="python -m certctl.sandbox.approval_server")
    parser.add_argument("--file", type=Path, required=True, help="the approvals (JSON)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    options = parser.parse_args(arguments)
    endpoint = type("Endpoint", (_Endpoint,), {"file": options.file})
    with ThreadingHTTPServer(("127.0.0.1", options.port), endpoint) as server:
        print(f"ready {server.server_port}", flush=True)  # noqa: T201 - a program of its own
        server.serve_forever()


if __name__ == "__main__":
    main()
