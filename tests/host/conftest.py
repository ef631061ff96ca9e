"""The hosts of these tests: bare Debians, installed by README's and the tutorials' own lines, then booted."""

import os
from collections.abc import Callable

import pytest

from tests.host.hosts import first_visitor_lines, readme_lines
from tests.host.image import Image, installed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "NOT PROVED: what happens on a real host; run as root"
    for item in items:
        if "tests/host/" in item.nodeid:
            item.add_marker(pytest.mark.host)
            item.add_marker(pytest.mark.timeout(1500))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def by_readme(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Image]:
    """Return how to have a suite with README's lines run on it."""
    return lambda suite: installed(suite, readme_lines(), tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="session")
def by_first_visitor(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Image]:
    """Return how to have a suite with the lines of the second tutorial run on it."""
    return lambda suite: installed(suite, first_visitor_lines(), tmp_path_factory.mktemp("visitor"))
