"""The server blocks nginx has, for naming the one that answers; looked at rarely: all is parsed anew."""

import time
from contextlib import suppress
from threading import Lock

from certctl.errors import CertctlError
from certctl.nginx.command import NginxCommand
from certctl.nginx.servers import Answering, ServerBlock, answering, server_blocks
from certctl.nginx.settings import NginxSettings

_FRESH_SECONDS = 60.0


class Blocks:
    """What ``nginx -T`` shows, kept for a minute: strangers may cause the question again and again."""

    def __init__(self, settings: NginxSettings, command: NginxCommand) -> None:
        self._settings = settings
        self._command = command
        self._guard = Lock()
        self._kept: tuple[float, list[ServerBlock]] | None = None

    def answering(self, name: str) -> Answering | None:
        """Return the block that answers for a name in plain HTTP; None where ``nginx -T`` is not for us to run."""
        return answering(self._all(), name, self._settings.http_port)

    def _all(self) -> list[ServerBlock]:
        with self._guard:
            if self._kept is None or time.monotonic() - self._kept[0] > _FRESH_SECONDS:
                found = list[ServerBlock]()
                with suppress(CertctlError):
                    found += server_blocks(self._command.dump())
                self._kept = time.monotonic(), found
            return self._kept[1]
