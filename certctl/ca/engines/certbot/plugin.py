"""The authenticator that certbot loads: a thin bridge to the certctl that started it.

Public API of certbot 5.8 only (``certbot.interfaces.Authenticator``, ``certbot.plugins.common.Plugin``). Unlike a
hook it sees all challenges of the order at once, can stop certbot before the CA is asked (a failing hook cannot:
measured), and is handed the failed challenges as typed ACME errors.
"""

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from acme import challenges
from acme.messages import ERROR_PREFIX
from certbot import errors
from certbot.achallenges import AnnotatedChallenge, KeyAuthorizationAnnotatedChallenge
from certbot.interfaces import Authenticator as CertbotAuthenticator
from certbot.plugins.common import Plugin

from certctl.ca.engines.certbot.plugin_socket import DESCRIPTOR, Problem, challenges_message, encode, failed_message
from certctl.ca.solvers.base import Challenge


class Authenticator(Plugin, CertbotAuthenticator):
    """Hands certbot's challenges to certctl, which started this certbot and holds the other end of a socket."""

    description = "For certctl's own use: certctl solves the challenges"

    @classmethod
    def add_parser_arguments(cls, add: Callable[..., None]) -> None:
        """Add no options: whatever certctl has to say comes over the socket."""

    def prepare(self) -> None:
        """Find the socket.

        Raises:
            MisconfigurationError: this certbot was not started by certctl.
        """
        descriptor = os.environ.get(DESCRIPTOR, "")
        if not descriptor.isdecimal():
            raise errors.MisconfigurationError("the certctl authenticator works only in a certbot run by certctl")
        self._channel = socket.socket(fileno=int(descriptor))

    def more_info(self) -> str:
        """Say what this is."""
        return "certctl shows the challenges to the CA."

    def get_chall_pref(self, identifier: str) -> Iterable[type[challenges.Challenge]]:  # noqa: ARG002
        """Offer both types; certctl chooses by ``--preferred-challenges``."""
        return [challenges.HTTP01, challenges.DNS01]

    def perform(self, achalls: list[AnnotatedChallenge]) -> list[challenges.ChallengeResponse]:
        """Have certctl solve all challenges, then let certbot tell the CA to look.

        Raises:
            PluginError: certctl gave the order up, or is gone; certbot stops and the CA is not asked.
        """
        responses, described = [], []
        for achall in achalls:
            if not isinstance(achall, KeyAuthorizationAnnotatedChallenge):
                raise errors.PluginError(f"a challenge of type {achall.typ} is not solved here")
            response, validation = achall.response_and_validation()
            responses.append(response)
            described.append(_describe(achall, validation))
        try:
            self._channel.sendall(encode(challenges_message(described)))
            answer = self._answer()
        except OSError as error:
            raise errors.PluginError("certctl is gone: the order is given up") from error
        if answer.get("ok") is not True:
            raise errors.PluginError(f"certctl gave the order up: {answer.get('abort', 'it is gone')}")
        return responses

    def cleanup(self, achalls: list[AnnotatedChallenge]) -> None:  # noqa: ARG002
        """Tell certctl that the challenges are over; when it is gone its next run cleans up."""
        with suppress(OSError):
            self._channel.sendall(encode({"done": True}))

    def auth_hint(self, failed_achalls: list[AnnotatedChallenge]) -> str:
        """Hand the failed challenges to certctl as typed errors."""
        with suppress(OSError):
            self._channel.sendall(encode(failed_message([_problem(achall) for achall in failed_achalls])))
        return "certctl explains what to do."

    def _answer(self) -> Mapping[str, object]:
        """Wait for certctl's one-line answer; an end of file means that it was killed."""
        with self._channel.makefile("rb") as lines:
            line = lines.readline()
        answer = json.loads(line) if line.endswith(b"\n") else {}
        return answer if isinstance(answer, dict) else {}


def _describe(achall: KeyAuthorizationAnnotatedChallenge, validation: str) -> Challenge:
    return Challenge(achall.identifier.value, achall.typ, achall.chall.encode("token"), validation)


def _problem(achall: AnnotatedChallenge) -> Problem:
    error = achall.error
    return Problem(
        type=str(error.typ or "").removeprefix(ERROR_PREFIX),
        detail=str(error.detail or error.title or ""),
        identifier=achall.identifier.value,
    )
