"""Verifications share what resolvers said, for as long as it holds, and threads, however many they are."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certctl.dns import CustomerDns
from certctl.dns.resolver import Resolver
from certctl.domain import Domain
from certctl.errors import NotReady
from tests.fakes.dns_world import RESOLVER, TARGET, DnsTown, town

SUB = Domain("status.acme.com")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as world:
        world.add(SUB.name, "CNAME", TARGET + ".")
        yield world


def asked_again(world: DnsTown, party: CustomerDns) -> set[tuple[str, str]]:
    """Verify twice; return what the resolver was asked both times."""
    party.verify(SUB)
    first = Counter((asked.name, asked.type) for asked in world.server.log if asked.address == RESOLVER)
    party.verify(SUB)
    both = Counter((asked.name, asked.type) for asked in world.server.log if asked.address == RESOLVER)
    return set(both - first)


def test_the_target_and_nameservers_are_asked_for_once_while_their_ttl_lasts(world: DnsTown) -> None:
    again = asked_again(world, world.party)
    assert not {(TARGET, "A"), (TARGET, "AAAA"), ("acme.com", "NS"), ("ns1.acme.com", "A")} & again


def test_what_was_not_there_is_asked_for_again(world: DnsTown) -> None:
    world.remove(TARGET, "AAAA")
    assert (TARGET, "AAAA") in asked_again(world, world.party)


def test_what_must_not_be_cached_is_asked_for_again(world: DnsTown) -> None:
    world.remove(TARGET, "A")
    world.add(TARGET, "A", "198.51.100.7", ttl=0)
    assert (TARGET, "A") in asked_again(world, world.party)


@pytest.mark.parametrize("asks_nameservers", [True, False])
def test_a_customers_own_record_is_always_asked_for(world: DnsTown, *, asks_nameservers: bool) -> None:
    if not asks_nameservers:
        world.resolver_only()
    party = world.party
    world.add(SUB.name, "CNAME", "elsewhere.example.net.")
    with pytest.raises(NotReady):
        party.verify(SUB)
    world.add(SUB.name, "CNAME", TARGET + ".")
    party.verify(SUB)
    world.remove(SUB.name, "CNAME")
    with pytest.raises(NotReady):
        party.verify(SUB)


def test_however_many_ask_at_once_nobody_waits_for_ever(world: DnsTown) -> None:
    resolver = Resolver(world.settings)

    def count(depth: int) -> int:
        return sum(resolver.in_parallel(count, [depth - 1] * 3)) if depth else 1

    with ThreadPoolExecutor(100) as crowd:
        assert list(crowd.map(count, [3] * 200, timeout=30)) == [27] * 200


def test_the_first_failure_is_raised(world: DnsTown) -> None:
    def fail(number: int) -> int:
        raise LookupError(number)

    with pytest.raises(LookupError, match="1"):
        Resolver(world.settings).in_parallel(fail, [1, 2, 3])
    assert Resolver(world.settings).in_parallel(fail, []) == ()
