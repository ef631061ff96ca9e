"""A real browser that trusts the sandbox's CA and nothing else: headless Chromium with a profile of its own."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.real_sandbox import Sandbox

_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Browser:
    """Chromium with its home directory."""

    home: Path
    sandbox: Sandbox

    def see(self, url: str, host: str) -> str:
        """Open a URL, following whatever it is told, and return the document it ends on, scripts run."""
        done = subprocess.run(
            [
                "chromium", *_QUIET, f"--user-data-dir={self.home}/profile",
                f"--host-resolver-rules=MAP {host} 127.0.0.1", "--dump-dom", url,
            ],
            capture_output=True, text=True, timeout=300, check=False,
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout


def open_browser(home: Path, sandbox: Sandbox) -> Browser:
    """Make a browser's home whose only extra root is the sandbox's CA (NSS's shared database, as on Debian)."""
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    store = f"sql:{database}"
    subprocess.run(["certutil", "-d", store, "-N", "--empty-password"], check=True, capture_output=True)
    root = str(sandbox.addresses["issuer_root_file"])
    subprocess.run(
        ["certutil", "-d", store, "-A", "-t", "C,,", "-n", "sandbox", "-i", root], check=True, capture_output=True
    )
    return Browser(home, sandbox)
