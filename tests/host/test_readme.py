"""README's lines for a server, on bare Debians, from the first to the last."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.documents import README, section
from tests.host.hosts import booted
from tests.host.image import BOOKWORM, TRIXIE, Image
from tests.host.test_tutorials import CUSTOMER, PAGE
from tests.host.walk import Walk, problems


@pytest.mark.parametrize("suite", [BOOKWORM, TRIXIE])
def test_readme_takes_a_bare_server_to_the_first_page(
    suite: str, by_readme: Callable[[str], Image], tmp_path: Path
) -> None:
    with booted(by_readme(suite), tmp_path) as host:
        host.net.approve(CUSTOMER)
        Walk(host).follow(section(README, "On your server"))
        host.write("/var/www/statuspage/index.html", PAGE)
        assert host.net.visit(f"http://{CUSTOMER}/").page.strip() == PAGE
        assert problems(host) == []
