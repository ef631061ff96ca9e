"""The unit tests with the Python of Debian 13, in a bare root: a connection left open is an error there."""

from pathlib import Path

from tests.host.hosts import readme_lines
from tests.host.image import TRIXIE, check_out, installed, run_line

UNIT_TESTS = "/opt/certctl/bin/python -m pytest -q -n 2 -p no:cacheprovider tests/unit"


def test_the_unit_tests_pass_with_the_python_of_debian_13(tmp_path: Path) -> None:
    image = installed(TRIXIE, [*readme_lines(), "/opt/certctl/bin/pip install --group test"], tmp_path)
    checkout = tmp_path / "again"
    check_out(checkout)
    said = run_line(image, UNIT_TESTS, checkout, tmp_path / "tested")
    assert " passed" in said.splitlines()[-1], said
