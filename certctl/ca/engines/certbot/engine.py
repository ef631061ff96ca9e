"""Engine ``certbot``: runs the certbot command in the scratch directory, our plugin in it."""

from dataclasses import replace
from datetime import timedelta

from certctl.ca.engines.base import Task
from certctl.ca.engines.certbot import argv
from certctl.ca.engines.certbot.command import find_certbot, insistently, run_certbot
from certctl.ca.engines.certbot.plugin_socket import Exchange
from certctl.ca.settings import CaSettings
from certctl.ca.solvers.run import Solving
from certctl.ca.transcript import Evidence
from certctl.ca.workdir import Scratch


class Certbot:
    """Fits ``engine.Engine``. It does not tell the CA what it renews: certbot 5.8 never sends ``replaces``."""

    def __init__(self, settings: CaSettings) -> None:
        self._settings = settings

    def issue(self, task: Task, account: str) -> Evidence:
        """Run certbot, more than once where its nonces are refused.

        Raises:
            ConfigInvalid: no usable certbot.
        """
        return insistently(lambda: self._run(task, account))

    def revoke(self, scratch: Scratch, lock: int) -> Evidence:
        """Run ``certbot revoke``.

        Raises:
            ConfigInvalid: no usable certbot.
        """
        command = argv.revoke(find_certbot(self._settings), self._settings, scratch)
        return run_certbot(command, self._settings, scratch, lock)

    def _run(self, task: Task, account: str) -> Evidence:
        way, scratch = task.way, task.scratch
        settings = replace(way.settings, deadline=timedelta(seconds=max(1.0, task.deadline.remaining())))
        scratch.forget_result()
        solving = Solving(way.solver, {task.domain.zone}, scratch.note_presented) if way.solver else None
        authenticator = way.plugin if way.solver is None else argv.ours(way.solver.challenge_type)
        command = argv.certonly(find_certbot(settings), settings, scratch, account, authenticator)
        return run_certbot(command, settings, scratch, task.lock, Exchange(solving) if solving else None)
