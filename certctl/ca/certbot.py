"""Engine ``certbot``: runs the certbot command in the scratch directory, our plugin in it."""

import random
from dataclasses import replace
from datetime import timedelta

from certctl.ca import argv
from certctl.ca.command import find_certbot, run_certbot
from certctl.ca.engine import Task
from certctl.ca.evidence import End, Evidence
from certctl.ca.exchange import Exchange
from certctl.ca.scratch import Scratch
from certctl.ca.settings import CaSettings
from certctl.ca.solving import Solving
from certctl.io.clock import SystemClock

_TRIES = 3


class Certbot:
    """Fits ``engine.Engine``. It does not tell the CA what it renews: certbot 5.8 never sends ``replaces``."""

    def __init__(self, settings: CaSettings, clock: SystemClock) -> None:
        self._settings = settings
        self._clock = clock

    def issue(self, task: Task, account: str) -> Evidence:
        """Run certbot; a refused nonce is no refusal, and certbot itself tries only twice (acme 5.9).

        Raises:
            ConfigInvalid: no usable certbot.
        """
        found = self._run(task, account)
        for _ in range(_TRIES - 1):
            if found.end is End.SUCCESS or not found.is_about("badNonce") or not task.deadline.remaining():
                break
            self._clock.pause(timedelta(seconds=random.uniform(0.1, 1.0)))  # noqa: S311 - jitter
            found = self._run(task, account)
        return found

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
