"""``certctl serve``: the daemon that gets a certificate for a first visitor."""

import os
from functools import partial
from pathlib import Path

import click

from certctl.app.context import Context
from certctl.app.daemon import make_account, require_reader, run
from certctl.app.daemon_units import daemon_files, newest
from certctl.app.ownership import require_write
from certctl.app.scheduler import is_booted, open_systemd, places, timer_settings
from certctl.cli.boundary import report_failure
from certctl.cli.framework import Invocation, command
from certctl.cli.opening import after_a_move, read_context
from certctl.cli.output.choose import open_report
from certctl.cli.output.daemon_log import DaemonLogWriter
from certctl.errors import ConfigInvalid, ExitCode
from certctl.slugs import Slug
from certctl.timer import install
from certctl.timer.files import HostFile
from certctl.timer.units import SERVING, serve_files


@command(
    "serve",
    """
    certctl serve                    in the foreground, until it is told to stop
    certctl serve --install          as a service of systemd, with its sockets
    """,
)
@click.option(
    "--socket", "path", type=click.Path(path_type=Path), help="Where nginx reaches it [default: [serve] socket]."
)
@click.option("--install", is_flag=True, help="Write the units for systemd, and start them.")
@click.option("--uninstall", is_flag=True, help="Stop them, and take the units away.")
@click.option("--dry-run", is_flag=True, help="With --install: show the diff; write nothing, start nothing.")
@click.pass_obj
def serve(invocation: Invocation, path: Path | None, install: bool, uninstall: bool, dry_run: bool) -> int:  # noqa: FBT001
    """Get certificates for first visitors: on the fly, while they wait.

    nginx hands over what it has no certificate for: a visit on port 80, a TLS handshake (mode lua), or the name of
    one that failed (mode shared). Each name is looked at as 'certctl issue' would, once, however many wait for it.
    """
    if dry_run and not install:
        raise click.UsageError("--dry-run goes with --install")
    context = read_context(invocation)
    if (install or uninstall) and not dry_run:
        require_write(context.path("/etc/systemd/system"))
    if install or uninstall:
        return _uninstall(invocation, context) if uninstall else _install(invocation, context, dry_run=dry_run)
    try:
        context = after_a_move(invocation)
        where = path.absolute() if path else context.path(context.settings.serve.socket)
        code = run(
            context,
            where,
            DaemonLogWriter(invocation, context.clock),
            partial(report_failure, invocation=invocation),
        )
    except KeyboardInterrupt:  # to be told to stop is how a daemon ends, also before it has handlers of its own
        code = int(ExitCode.DONE)
    if code == ExitCode.INTERRUPTED:
        os._exit(code)  # asked twice: no thread at the CA holds us up
    if invocation.json and code == ExitCode.DONE:
        open_report(invocation).data({"stopped": True}, "")
    return code


def _install(invocation: Invocation, context: Context, *, dry_run: bool) -> int:
    """Write the daemon's systemd units and start them, or with ``dry_run`` only show what would change."""
    if not is_booted(context):
        raise ConfigInvalid(
            Slug.SERVE_FAILED,
            "systemd does not run this host",
            expected=["'certctl serve' under whatever starts nginx here"],
        )
    files = daemon_files(context, timer_settings(context))
    install.refuse_foreign(files)
    if not dry_run:
        make_account(context)
        require_reader(context)
    diff = "".join(file.diff() for file in files)
    changed = bool(diff) if dry_run else install.install(files, open_systemd(context, SERVING), newest(context))
    done = "Nothing was written." if dry_run else _said(files, written=bool(diff))
    said = done if changed else "Nothing changed: the daemon is installed."
    payload = {"dry_run": dry_run, "changed": changed, "diff": diff, "files": _conditions(files)}
    open_report(invocation).data(payload, "\n".join(filter(None, [diff, said])))
    return 0


def _said(files: list[HostFile], *, written: bool) -> str:
    if written:
        return f"Installed: {' '.join(str(file.path) for file in files)}"
    return "Started anew: what it reads at its start had changed, or it was not running."


def _uninstall(invocation: Invocation, context: Context) -> int:
    """Stop the daemon and delete the units certctl wrote."""
    files = serve_files(places(context))
    removed = [str(file.path) for file in install.remove(files, open_systemd(context, SERVING))]
    payload = {"changed": bool(removed), "removed": removed, "files": _conditions(files)}
    open_report(invocation).data(payload, "\n".join(f"removed {path}" for path in removed) or "Nothing to remove.")
    return 0


def _conditions(files: list[HostFile]) -> list[dict[str, str]]:
    return [{"path": str(file.path), "condition": str(file.condition)} for file in files]
