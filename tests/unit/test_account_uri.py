"""The URL of our account, which CAA records may name (RFC 8657): read as certbot wrote it, behind no link."""

import json
from pathlib import Path

import pytest

from certctl.ca.account_files import account_uri
from certctl.ca.settings import CaSettings

OURS = "https://ca.test/acct/7"


@pytest.fixture
def settings(tmp_path: Path) -> CaSettings:
    return CaSettings("https://ca.test:14000/dir/v2", tmp_path / "acme", tmp_path / "challenges")


def register(settings: CaSettings, uri: object = OURS, name: str = "b") -> Path:
    home = settings.accounts / "ca.test:14000/dir/v2" / name
    home.mkdir(parents=True)
    (home / "private_key.json").write_text('{"kty": "RSA"}')
    (home / "meta.json").write_text('{"creation_dt": "2026-11-27T00:00:00Z"}')
    (home / "regr.json").write_text(json.dumps({"uri": uri, "body": {}}))
    return home


def test_it_is_the_one_that_certbot_wrote(settings: CaSettings) -> None:
    assert account_uri(settings) == ""
    register(settings)
    assert account_uri(settings) == OURS


def test_the_first_whole_account_counts_as_for_an_order(settings: CaSettings) -> None:
    (register(settings, "https://ca.test/acct/1", "a") / "private_key.json").unlink()
    register(settings)
    register(settings, "https://ca.test/acct/9", "c")
    assert account_uri(settings) == OURS


@pytest.mark.parametrize("content", ["", "[]", "{}", "\xff", "{"])
def test_a_broken_file_is_no_account(settings: CaSettings, content: str) -> None:
    (register(settings) / "regr.json").write_text(content, encoding="latin-1")
    assert account_uri(settings) == ""


@pytest.mark.parametrize("link", ["regr.json", "", "..", "../.."])
def test_a_link_that_somebody_planted_on_the_way_is_not_followed(
    settings: CaSettings, tmp_path: Path, link: str
) -> None:
    place = (register(settings) / link).resolve() if link else register(settings)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert account_uri(settings) == ""
