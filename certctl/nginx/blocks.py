"""The server blocks of nginx's whole configuration, cached, because each ``nginx -T`` parses everything."""

import time
from contextlib import suppress
from threading import Lock

from certctl.errors import CertctlError
from certctl.nginx.command import NginxCommand
from certctl.nginx.servers import Answering, ServerBlock, answering, server_blocks
from certctl.nginx.settings import NginxSettings

_FRESH_SECONDS = 60.0


class Blocks:
    """The server blocks in ``nginx -T``, kept for a minute: unauthenticated visits may cause the question."""

    def __init__(self, settings: NginxSettings, command: NginxCommand) -> None:
        self._settings = settings
        self._command = command
        self._guard = Lock()
        self._kept: tuple[float, list[ServerBlock]] | None = None

    def answering(self, name: str) -> Answering | None:
        """Return the server block that answers for a name on port 80; None when ``nginx -T`` cannot be run."""
        return answering(self._all(), name, self._settings.http_port)

    def _all(self) -> list[ServerBlock]:
        with self._guard:
            if self._kept is None or time.monotonic() - self._kept[0] > _FRESH_SECONDS:
                found = list[ServerBlock]()
                with suppress(CertctlError):
                    found += server_blocks(self._command.dump())
                self._kept = time.monotonic(), found
            return self._kept[1]
