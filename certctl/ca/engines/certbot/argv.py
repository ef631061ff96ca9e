"""The command lines we give certbot 5.8, as pure functions.

Options are always ``--name=value``: no value of ours can be read as another option. Nothing secret is ever among
them: keys are files, and only their paths are named.
"""

from collections.abc import Sequence
from pathlib import Path

from certctl.ca.settings import CaSettings
from certctl.ca.workdir import WorkingDirectory


def certonly(
    certbot: Path, settings: CaSettings, workdir: WorkingDirectory, account: str, authenticator: Sequence[str]
) -> list[str]:
    """Return the ``certbot certonly`` command that turns our signing request into a chain."""
    return [
        str(certbot),
        "certonly",
        *_common(settings, workdir),
        f"--account={account}",
        f"--csr={workdir.request}",
        *authenticator,
        f"--cert-path={workdir.cert}",
        f"--chain-path={workdir.chain}",
        f"--fullchain-path={workdir.fullchain}",
        # certbot's own limit on finalization; ours is on the whole run.
        f"--issuance-timeout={int(settings.deadline.total_seconds() / 2)}",
        *([f"--required-profile={settings.profile}"] if settings.profile else []),
    ]


def ours(challenge_type: str) -> list[str]:
    """Return the certbot options that leave challenges of one type to our authenticator plugin."""
    return ["--authenticator=certctl", f"--preferred-challenges={challenge_type}"]


def register(certbot: Path, settings: CaSettings, workdir: WorkingDirectory) -> list[str]:
    """Return the ``certbot register`` command, which makes an account (RFC 8555 §7.3)."""
    contact = (
        [f"--email={settings.email}", "--no-eff-email"] if settings.email else ["--register-unsafely-without-email"]
    )
    return [str(certbot), "register", *_common(settings, workdir), "--agree-tos", *contact]


def revoke(certbot: Path, settings: CaSettings, workdir: WorkingDirectory) -> list[str]:
    """Return the ``certbot revoke`` command, signed with the certificate's own key (RFC 8555 §7.6)."""
    return [
        str(certbot),
        "revoke",
        *_common(settings, workdir),
        f"--cert-path={workdir.fullchain}",
        f"--key-path={workdir.key}",
        "--no-delete-after-revoke",
    ]


def _common(settings: CaSettings, workdir: WorkingDirectory) -> list[str]:
    return [
        "--non-interactive",
        f"--server={settings.directory}",
        f"--config-dir={workdir.config}",
        f"--work-dir={workdir.work}",
        f"--logs-dir={workdir.logs}",
        "--max-log-backups=0",
    ]
