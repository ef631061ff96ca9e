"""Engine ``certbot``: runs the certbot command in the working directory, with our plugin."""

from dataclasses import replace
from datetime import timedelta

from certctl.ca.engines.base import Task
from certctl.ca.engines.certbot import argv
from certctl.ca.engines.certbot.command import find_certbot, retry_bad_nonce, run_certbot
from certctl.ca.engines.certbot.plugin_socket import PluginSocket
from certctl.ca.settings import CaSettings
from certctl.ca.solvers.run import Solving
from certctl.ca.transcript import EngineResult
from certctl.ca.workdir import WorkingDirectory


class Certbot:
    """Implements ``engines.base.Engine``; certbot 5.8 never sends ``replaces`` (RFC 9773 §5)."""

    def __init__(self, settings: CaSettings) -> None:
        self._settings = settings

    def issue(self, task: Task, account: str) -> EngineResult:
        """Run ``certbot certonly``, again while the CA answers ``badNonce``.

        Raises:
            ConfigInvalid: no usable certbot.
        """
        return retry_bad_nonce(lambda: self._run(task, account))

    def revoke(self, workdir: WorkingDirectory, lock: int) -> EngineResult:
        """Run ``certbot revoke``.

        Raises:
            ConfigInvalid: no usable certbot.
        """
        command = argv.revoke(find_certbot(self._settings), self._settings, workdir)
        return run_certbot(command, self._settings, workdir, lock)

    def _run(self, task: Task, account: str) -> EngineResult:
        plan, workdir = task.plan, task.workdir
        settings = replace(plan.settings, deadline=timedelta(seconds=max(1.0, task.deadline.remaining())))
        workdir.forget_result()
        solving = Solving(plan.solver, {task.domain.zone}, workdir.note_presented) if plan.solver else None
        authenticator = plan.plugin if plan.solver is None else argv.ours(plan.solver.challenge_type)
        command = argv.certonly(find_certbot(settings), settings, workdir, account, authenticator)
        return run_certbot(command, settings, workdir, task.lock, PluginSocket(solving) if solving else None)
