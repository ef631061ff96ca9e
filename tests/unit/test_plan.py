"""Which solver proves a wildcard, by which engine, and who writes its records."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.ca.plan import Capabilities, OrderPlan
from certctl.ca.settings import CaSettings
from certctl.ca.solvers.base import DNS_01, Challenge, HttpTokens
from certctl.ca.solvers.rfc2136 import TxtAutomation
from certctl.ca.workdir import WorkingDirectory
from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.io.clock import SystemClock
from certctl.txt_records import TxtAnswer, TxtSight
from certctl.values import DnsSolver

ZONE = "zone.test"
NAME = f"_acme-challenge.{ZONE}"
SETTINGS = CaSettings(
    "https://ca.test/directory", Path("/acme"), Path("/challenges"), deadline=timedelta(minutes=1)
)


@dataclass
class Zone:
    """A zone with one nameserver, where whoever is asked to writes at once."""

    owner: str = NAME
    values: list[str] = field(default_factory=list)

    def look(self, zone: str, label: str = "") -> TxtSight:  # noqa: ARG002
        return TxtSight(NAME, self.owner, ZONE, (TxtAnswer("ns1", tuple(self.values)),))

    def add(self, zone: str, owner: str, values: Sequence[str]) -> None:
        assert (zone, owner) == (ZONE, self.owner)
        self.values += values

    def remove(self, zone: str, owner: str, values: Sequence[str]) -> None:
        assert (zone, owner) == (ZONE, self.owner)
        self.values = [value for value in self.values if value not in values]


def planned(zone: Zone, plugin: str, engine: str, tmp_path: Path) -> OrderPlan:
    automation = TxtAutomation(zone, {"ours": lambda _: zone}, SystemClock())
    means = Capabilities(engine, HttpTokens(tmp_path), automation=automation)
    return means.plan(SETTINGS, Domain(f"*.{ZONE}"), DnsSolver(plugin), WorkingDirectory(tmp_path))


def test_the_writer_of_the_providers_name_shows_the_record_and_takes_it_away(tmp_path: Path) -> None:
    zone = Zone(owner="token.challenges.test")
    plan = planned(zone, "ours", "acme", tmp_path)
    assert (plan.engine, plan.plugin) == ("acme", ())
    assert plan.solver is not None
    challenges = [Challenge(ZONE, DNS_01, "a-token-that-is-long", "digest")]
    plan.solver.present(challenges)
    plan.solver.wait(challenges)
    assert zone.values == ["digest"]
    plan.solver.clean_up(challenges)
    assert zone.values == []


def test_certbot_writes_by_its_own_plugin_unless_a_cname_must_be_followed(tmp_path: Path) -> None:
    assert planned(Zone(owner="token.challenges.test"), "ours", "certbot", tmp_path).plugin == ()
    with pytest.raises(ConfigInvalid) as caught:
        planned(Zone(), "ours", "certbot", tmp_path)
    assert caught.value.slug == "missing-program"
    assert caught.value.message == "certbot has no plugin dns-ours"


@pytest.mark.parametrize("engine", ["acme", "certbot"])
def test_a_provider_without_a_writer_of_ours_is_certbots(engine: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        planned(Zone(), "nobodys", engine, tmp_path)
    assert caught.value.slug == "missing-program"
