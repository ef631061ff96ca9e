"""Hosts made by what a page says, each in a closed Internet of its own."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from tests.host.documents import FIRST_DOMAIN, FIRST_VISITOR, README, commands, installing
from tests.host.image import Image
from tests.host.internet import internet
from tests.host.machine import Machine, machine

_NUMBERS = count()


@contextmanager
def booted(image: Image, place: Path, *, retry_after: bool = True) -> Iterator[Machine]:
    """Boot a host in a closed Internet of its own, whose CA says when to ask again or does not."""
    label = f"certctl-{os.getpid()}-{next(_NUMBERS)}"
    with ExitStack() as stack:
        net = stack.enter_context(internet(place / "internet", label, retry_after=retry_after))
        yield stack.enter_context(machine(image, net, place / "host"))


def readme_lines() -> list[str]:
    """Return the lines of README that install."""
    return installing(commands(README, "On your server"))


def first_domain_lines() -> list[str]:
    """Return those of the first tutorial."""
    return installing(commands(FIRST_DOMAIN, "2. On a server"))


def first_visitor_lines() -> list[str]:
    """Return those of the second."""
    return installing(commands(FIRST_VISITOR, "1. nginx and certctl"))
