"""The authenticator plugin that certbot loads: it passes challenges to the certctl that started certbot.

Public API of certbot 5.8 only (``certbot.interfaces.Authenticator``, ``certbot.plugins.common.Plugin``). Unlike
certbot's hooks, a plugin gets all challenges of the order at once, can stop certbot before the CA validates (a
failing hook cannot: measured), and gets the failed challenges as typed ACME errors.
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
    """Passes certbot's challenges over a socket to certctl, certbot's parent process."""

    description = "For certctl's own use: certctl solves the challenges"

    @classmethod
    def add_parser_arguments(cls, add: Callable[..., None]) -> None:
        """Add no options: all parameters come over the socket."""

    def prepare(self) -> None:
        """Open the socket whose descriptor certctl passed down.

        Raises:
            MisconfigurationError: this certbot was not started by certctl.
        """
        descriptor = os.environ.get(DESCRIPTOR, "")
        if not descriptor.isdecimal():
            raise errors.MisconfigurationError("the certctl authenticator works only in a certbot run by certctl")
        self._channel = socket.socket(fileno=int(descriptor))

    def more_info(self) -> str:
        """Return the plugin's description for ``certbot plugins``."""
        return "certctl shows the challenges to the CA."

    def get_chall_pref(self, identifier: str) -> Iterable[type[challenges.Challenge]]:  # noqa: ARG002
        """Return both challenge types; certctl chooses by ``--preferred-challenges``."""
        return [challenges.HTTP01, challenges.DNS01]

    def perform(self, achalls: list[AnnotatedChallenge]) -> list[challenges.ChallengeResponse]:
        """Return certbot's responses after certctl has presented all challenges.

        Raises:
            PluginError: certctl gave the order up, or is gone; certbot stops before the CA validates.
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
        """Tell certctl that the challenges are over; when certctl is gone, its next run cleans up."""
        with suppress(OSError):
            self._channel.sendall(encode({"done": True}))

    def auth_hint(self, failed_achalls: list[AnnotatedChallenge]) -> str:
        """Send the failed challenges to certctl as typed errors, and return certbot's hint: none."""
        with suppress(OSError):
            self._channel.sendall(encode(failed_message([_problem(achall) for achall in failed_achalls])))
        return "certctl explains what to do."

    def _answer(self) -> Mapping[str, object]:
        """Return certctl's answer, one JSON line; an end of file means that certctl was killed."""
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
