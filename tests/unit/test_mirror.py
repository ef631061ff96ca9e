"""The mirror's one rule: what ``current`` names is never written to and never removed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.nginx import mirror
from certctl.nginx.mirror import CLOSED, FOR_WORKERS
from certctl.nginx.place import Place
from certctl.values import Pem, Site
from tests.real_nginx import make_site

_CA = trustme.CA()


@pytest.fixture
def live(tmp_path: Path) -> Place:
    return Place(tmp_path / "live", CLOSED, is_roots=False)


@pytest.fixture
def site() -> Site:
    return make_site(_CA, "a.test", 1)


def state_of(path: Path) -> tuple[object, ...]:
    """Return what a file is; when it was read does not count."""
    facts = path.lstat()
    return facts.st_ino, facts.st_mode, facts.st_mtime_ns, facts.st_ctime_ns


def names(live: Place) -> set[str]:
    return {path.name for path in (live.path / "a.test").iterdir()}


def test_a_version_that_is_there_is_not_made_again(live: Place, site: Site) -> None:
    live.put(site)
    assert live.slot(site) == mirror.Slot(live.path / "a.test" / "1", None)
    key = live.link(site.domain) / mirror.KEY
    before = state_of(key)
    live.stage(live.slot(site), site)
    assert state_of(key) == before
    assert names(live) == {"1", "current"}


@pytest.mark.parametrize("damage", ["mode", "key", "chain", "gone"])
def test_a_damaged_version_in_force_gets_a_twin_and_stays_as_it_is(live: Place, site: Site, damage: str) -> None:
    live.put(site)
    version = live.path / "a.test" / "1"
    if damage == "gone":
        shutil.rmtree(version)
    elif damage == "mode":
        (version / mirror.KEY).chmod(0o640)
    else:
        (version / {"key": mirror.KEY, "chain": mirror.CHAIN}[damage]).write_text("")
    before = {path: state_of(path) for path in version.rglob("*")}
    assert not live.holds(site)
    slot = live.slot(site)
    assert slot == mirror.Slot(live.path / "a.test" / "1.1", live.path / "a.test" / "1.1")
    live.stage(slot, site)
    assert {path: state_of(path) for path in version.rglob("*")} == before
    assert live.target(site.domain) == "1"
    live.put(site)
    live.prune(site.certificate)
    assert names(live) == {"1.1", "current"}
    assert live.holds(site)


def test_of_two_twins_the_one_that_is_right_is_taken(live: Place, site: Site) -> None:
    live.put(site)
    (live.path / "a.test" / "1").rename(live.path / "a.test" / "1.1")
    assert live.slot(site) == mirror.Slot(live.path / "a.test" / "1.1", None)
    live.put(site)
    assert live.target(site.domain) == "1.1"
    live.put(replace(site, certificate=replace(site.certificate, version=2)))
    assert live.target(site.domain) == "2"
    assert live.slot(site) == mirror.Slot(live.path / "a.test" / "1.1", None)


@pytest.mark.parametrize("name", ["", "1"])
def test_whoever_asks_what_is_in_force_is_not_removed(live: Place, site: Site, name: str) -> None:
    live.put(site)
    mirror.discard(live.path / "a.test" / name if name else live.path / "a.test")
    assert live.holds(site)


def test_a_version_not_in_force_and_a_home_without_one_are_removed(live: Place, site: Site) -> None:
    live.put(site)
    spare = live.path / "a.test" / "7"
    spare.mkdir()
    mirror.discard(spare)
    assert names(live) == {"1", "current"}
    live.link(site.domain).unlink()
    mirror.discard(live.path / "a.test")
    assert list(live.path.iterdir()) == []
    mirror.discard(live.path / "a.test")


def test_a_pair_that_cannot_be_loaded_leaves_nothing_but_what_was_there(live: Place, site: Site) -> None:
    live.put(site)
    other = make_site(_CA, "a.test", 2)
    torn = Site(other.certificate, Pem(other.pem.fullchain, site.pem.private_key))
    with pytest.raises(WebServerFailed):
        live.stage(live.slot(torn), torn)
    assert names(live) == {"1", "current"}
    assert live.holds(site)


def test_what_a_killed_run_left_half_made_goes_when_its_name_is_next_looked_at(live: Place, site: Site) -> None:
    live.put(site)
    for name in (f".{'a' * 16}.tmp", f".{'b' * 16}.tmp"):
        (live.path / "a.test" / name).mkdir()
    (live.path / "a.test" / f".{'c' * 16}.old").symlink_to("1")
    live.slot(site)
    assert names(live) == {"1", "current"}


def test_the_way_a_certctl_before_repaired_is_finished(live: Place, site: Site) -> None:
    """It let ``current`` name the half-made directory for a moment, and may have been killed then."""
    live.put(site)
    home = live.path / "a.test"
    shutil.copytree(home / "1", home / f".{'a' * 16}.tmp")
    live.link(site.domain).unlink()
    live.link(site.domain).symlink_to(f".{'a' * 16}.tmp")
    live.slot(site)
    assert live.link(site.domain).is_dir()
    live.put(site)
    live.prune(site.certificate)
    assert names(live) == {"1", "current"}


def test_the_newest_other_version_is_kept_and_twins_are_not(live: Place) -> None:
    sites = [make_site(_CA, "a.test", version) for version in (1, 2, 9, 10, 11)]
    for site in sites:
        live.put(site)
    shutil.copytree(live.path / "a.test" / "11", live.path / "a.test" / "11.1")
    (live.path / "a.test" / "notes").mkdir()
    live.prune(sites[-1].certificate)
    assert names(live) == {"10", "11", "notes", "current"}


def test_a_name_taken_out_is_out_of_force_before_its_files_go(
    live: Place, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.put(site)
    monkeypatch.setattr("certctl.nginx.mirror.remove_tree", lambda _: None)  # as if killed there
    live.remove(site.domain)
    assert live.target(site.domain) is None
    monkeypatch.undo()
    live.remove(site.domain)
    assert list(live.path.iterdir()) == []


def test_a_key_for_workers_is_another_key_than_one_for_root(live: Place, site: Site) -> None:
    live.put(site)
    open_place = replace(live, rights=FOR_WORKERS)
    assert not open_place.holds(site)
    open_place.put(site)
    assert (live.link(site.domain) / mirror.KEY).stat().st_mode & 0o777 == 0o640


def test_of_two_right_twins_the_one_in_force_stays_so(live: Place, site: Site) -> None:
    live.put(site)
    home = live.path / "a.test"
    shutil.copytree(home / "1", home / "1.1")
    live.link(site.domain).unlink()
    live.link(site.domain).symlink_to("1.1")
    assert live.slot(site) == mirror.Slot(home / "1.1", None)
    assert live.holds(site)


def test_a_version_that_came_into_force_meanwhile_is_not_replaced(live: Place, site: Site) -> None:
    live.put(site)
    home = live.path / "a.test"
    with pytest.raises(OSError, match="not empty"):
        live.stage(mirror.Slot(home / "1", home / "1"), site)
    assert names(live) == {"1", "current"}
    assert live.holds(site)


def test_only_those_who_may_read_keys_may_look_into_a_domains_directory(live: Place, site: Site) -> None:
    live.put(site)
    home = live.path / "a.test"
    assert [path.stat().st_mode & 0o777 for path in (live.path, home, home / "1")] == [0o700] * 3


@pytest.mark.parametrize("name", [mirror.KEY, mirror.CHAIN])
@pytest.mark.parametrize("damage", ["gone", "empty", "directory", "garbage"])
def test_a_pair_of_which_half_is_none_is_no_pair(live: Place, site: Site, name: str, damage: str) -> None:
    live.put(site)
    pair = live.link(site.domain)
    assert mirror.is_pair(pair, thoroughly=False)
    assert mirror.is_pair(pair, thoroughly=True)
    (pair / name).unlink()
    if damage == "directory":
        (pair / name).mkdir()
    elif damage != "gone":
        (pair / name).write_text("" if damage == "empty" else "garbage")
    assert mirror.is_pair(pair, thoroughly=False) is (damage == "garbage")  # what is in it is not read then
    assert not mirror.is_pair(pair, thoroughly=True)


def test_a_version_that_is_no_certificate_hides_no_other_leaf(live: Place, site: Site) -> None:
    live.put(site)
    for name, text in (("7", b"garbage"), ("8", b"\xff")):
        (live.path / "a.test" / name).mkdir()
        (live.path / "a.test" / name / mirror.CHAIN).write_bytes(text)
    assert live.fingerprints(site.domain) == {site.certificate.fingerprint}


def test_a_wildcards_name_that_no_directory_can_have_is_made_short() -> None:
    for length, is_short in ((255, False), (256, True)):
        label = "a" * (length - len("_wildcard."))
        domain = Domain(f"*.{label}")
        assert len(domain.directory) == length
        assert (mirror.domain_path(Path("/live"), domain).name == domain.stem) is is_short
