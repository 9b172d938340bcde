"""Hosts share the partitions of their types, whatever joins, leaves, dies or fails, and never own one at the same time.

The hosts are real memberships and placements over one bucket in memory; only their leases are fakes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from aidevos.contracts import subjects
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.bucket import Entry, RolledBack
from aidevos.durable.hosting import placement
from aidevos.durable.hosting.membership import FORM, Member, Membership, check_forms
from aidevos.durable.hosting.placement import IDLE_MOVES_AT_ONCE, MOVES_AT_ONCE, Owner, Placement
from aidevos.settings import SettingsError
from tests.support.buckets import MemoryBucket
from tests.support.kits import quiet, until

COUNT = 16
TYPES = ("cat", "dog")


class FakeLease:
    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.lost = asyncio.Event()
        self.rolled_back = False

    @property
    def ended(self) -> bool:
        return self.lost.is_set()

    def valid(self) -> bool:
        return not self.ended

    def end(self, *, rolled_back: bool = False) -> None:
        self.lost.set()
        self.rolled_back |= rolled_back


class FakeEvents:
    """Keeps what is told of taken and released partitions."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.released: list[tuple[str, int]] = []

    def partitions_taken(self, type: str, partitions: Iterable[int]) -> None:
        self.taken += [(type, each) for each in partitions]

    def partitions_released(self, type: str, partitions: Iterable[int]) -> None:
        self.released += [(type, each) for each in partitions]


class Fleet:
    """Hosts that share two buckets. `serving` has the living host that serves each partition."""

    def __init__(self) -> None:
        self.hosts_bucket = MemoryBucket()
        self.keys = MemoryBucket()
        self.hosts: dict[str, FakeHost] = {}
        self.serving: dict[tuple[str, int], str] = {}
        self.lost: list[str] = []
        self.moved: list[tuple[str, int]] = []
        self.moving: list[tuple[str, int]] = []
        self.most_moving = 0
        # The partitions without objects in memory.
        self.idle: set[tuple[str, int]] = set()

    async def join(self, name: str, **options: Any) -> FakeHost:
        self.hosts[name] = host = FakeHost(self, name, **options)
        await host.start()
        return host

    def alive(self) -> list[FakeHost]:
        return [host for host in self.hosts.values() if not host.lease.ended]

    def is_even(self) -> bool:
        """Return True if every partition is served by a living host, and each serves its share."""
        names = {host.lease.incarnation for host in self.alive()}
        for type in TYPES:
            owners = [self.serving.get((type, each), "") for each in range(COUNT)]
            keys = [self.keys.value(f"{type}.{each}") for each in range(COUNT)]
            loads = Counter(owners)
            if owners != keys or set(owners) != names or max(loads.values()) - min(loads.values()) > 1:
                return False
        return True


class FakeHost:
    def __init__(self, fleet: Fleet, name: str, types: tuple[str, ...] = TYPES) -> None:
        self.fleet = fleet
        self.lease: Any = FakeLease(f"{name}.{random.randbytes(4).hex()}")
        self.partitions = Partitions(COUNT, self.lease.valid)
        hosts, keys = fleet.hosts_bucket, fleet.keys
        own = Member(service="pets", replica=0, release="1", since=0.0, types=list(types), form=FORM)
        anything: Any = hosts
        self.membership = Membership(anything, self.lease, own, lambda: self.placement.place_soon(), fleet.lost.append)
        self.events: Any = FakeEvents()
        anything = keys
        self.placement = Placement(
            anything,
            self.membership,
            self.lease,
            self.partitions,
            types,
            self._take,
            self._hand_over,
            lambda *place: place not in fleet.idle,
            self.events,
        )
        self.claimed: list[dict[int, str]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.may_hand_over = asyncio.Event()
        self.may_hand_over.set()

    @property
    def served(self) -> set[tuple[str, int]]:
        return {place for place, host in self.fleet.serving.items() if host == self.lease.incarnation}

    async def start(self) -> None:
        self.fleet.hosts_bucket.write(subjects.lease_key("pets", self.lease.incarnation), b"1")
        await self.membership.join()
        works = (
            self.membership.follow(),
            self.membership.follow_leases(),
            self.placement.follow(),
            self.placement.run(),
        )
        self.tasks = [asyncio.ensure_future(work) for work in works]

    async def _take(self, type: str, claimed: dict[int, str]) -> None:
        self.claimed.append(claimed)
        for each in claimed:
            owner = self.fleet.serving.get((type, each))
            alive = {host.lease.incarnation for host in self.fleet.alive()}
            assert owner is None or owner not in alive, f"{owner} still serves {type}.{each}"
            self.fleet.serving[type, each] = self.lease.incarnation
        self.partitions.take(type, claimed)
        await asyncio.sleep(0)

    async def _hand_over(self, type: str, partition: int) -> None:
        place = (type, partition)
        self.fleet.moving.append(place)
        self.fleet.most_moving = max(self.fleet.most_moving, len(self.fleet.moving))
        await self.may_hand_over.wait()
        await asyncio.sleep(0)
        self.fleet.moving.remove(place)
        self.fleet.moved.append(place)
        self.partitions.drop(type, partition)
        if self.fleet.serving.get((type, partition)) == self.lease.incarnation:
            del self.fleet.serving[type, partition]

    async def leave(self) -> None:
        await self.membership.leave()
        await self.placement.stop()
        await self.placement.drain(10.0)
        await self.die()

    async def die(self) -> None:
        """End at once; the lease expires now."""
        self.lease.end()
        await cancel_and_wait(self.tasks)
        await self.placement.abandon()
        self.fleet.hosts_bucket.write(subjects.lease_key("pets", self.lease.incarnation), None)


@pytest.fixture
async def fleet() -> Any:
    fleet = Fleet()
    yield fleet
    for host in fleet.hosts.values():
        await cancel_and_wait(host.tasks)
        await host.placement.abandon()
        assert not any(task.done() and task.exception() for task in host.tasks if not task.cancelled())


async def test_a_single_host_owns_everything_and_knows_when_it_has_its_share(fleet: Fleet) -> None:
    host = await fleet.join("a")
    await until(fleet.is_even)
    await until(host.placement.settled.is_set)
    assert host.placement.owner_of("cat", 3) == host.lease.incarnation
    assert set().union(*(claimed.values() for claimed in host.claimed)) == {""}


async def test_a_host_that_joins_gets_its_share_and_nothing_else_moves(fleet: Fleet) -> None:
    for name in "abc":
        await fleet.join(name)
        await until(fleet.is_even)
    fleet.moved.clear()
    await fleet.join("d")
    await until(fleet.is_even)
    assert len(fleet.moved) <= len(TYPES) * -(-COUNT // 4)


async def test_what_is_taken_and_released_is_told(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    second = await fleet.join("b")
    await until(fleet.is_even)
    assert len(first.events.taken) == len(TYPES) * COUNT
    await until(lambda: sorted(second.events.taken) == sorted(first.events.released) == sorted(second.served))


async def test_a_few_partitions_move_at_a_time(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    first.may_hand_over.clear()
    await fleet.join("b")
    await until(lambda: len(fleet.moving) == MOVES_AT_ONCE)
    await quiet()
    assert len(first.served) == len(TYPES) * COUNT
    first.may_hand_over.set()
    await until(fleet.is_even)
    assert fleet.most_moving == MOVES_AT_ONCE


async def test_partitions_without_objects_move_together_before_the_others(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    fleet.idle = {(type, each) for type in TYPES for each in range(1, COUNT)}
    first.may_hand_over.clear()
    leaving = asyncio.ensure_future(first.leave())
    await until(lambda: len(fleet.moving) == min(IDLE_MOVES_AT_ONCE, len(fleet.idle)))
    await quiet()
    assert fleet.idle.issuperset(fleet.moving)
    first.may_hand_over.set()
    await leaving
    assert fleet.moved[-len(TYPES) :] == [(type, 0) for type in TYPES]


async def test_a_host_that_joins_gets_many_partitions_without_objects_at_once(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    fleet.idle = {(type, each) for type in TYPES for each in range(COUNT)}
    first.may_hand_over.clear()
    await fleet.join("b")
    await until(lambda: len(fleet.moving) == min(IDLE_MOVES_AT_ONCE, len(TYPES) * COUNT // 2))
    first.may_hand_over.set()
    await until(fleet.is_even)


async def test_what_a_leaving_host_had_is_shared_by_the_others(fleet: Fleet) -> None:
    for name in "abc":
        await fleet.join(name)
    await until(fleet.is_even)
    await fleet.hosts["b"].leave()
    await until(fleet.is_even)


async def test_a_few_partitions_are_without_an_owner_at_a_time(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "CLAIMED_WITHIN", 60.0)
    first, second = await fleet.join("a"), await fleet.join("b")
    await until(fleet.is_even)
    claim, may_claim = second.placement._claim, asyncio.Event()

    async def claim_later(*args: Any) -> dict[int, int]:
        await may_claim.wait()
        return await claim(*args)

    second.placement._claim = claim_later  # type: ignore[method-assign]
    leaving = asyncio.ensure_future(first.leave())
    await until(lambda: len(fleet.serving) < len(TYPES) * COUNT)
    await quiet()
    assert len(fleet.serving) == len(TYPES) * COUNT - MOVES_AT_ONCE
    may_claim.set()
    await leaving
    await until(fleet.is_even)


async def test_a_host_whose_partitions_nobody_claims_leaves_all_the_same(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "CLAIMED_WITHIN", 1.5)
    first, second = await fleet.join("a"), await fleet.join("b")
    await until(fleet.is_even)
    await cancel_and_wait(second.tasks)
    first.placement._patience = 1.5
    assert len(first.served) / MOVES_AT_ONCE * 1.5 > 4.5
    async with asyncio.timeout(4.5):
        await first.leave()
    assert not first.served


async def test_a_released_partition_waits_for_no_other_one_to_be_taken(fleet: Fleet) -> None:
    await fleet.join("a")
    await until(fleet.is_even)
    second, first_is_taken = FakeHost(fleet, "b"), asyncio.Event()
    take, batches = second.placement._take, 0

    async def take_the_first_slowly(type: str, claimed: dict[int, str]) -> None:
        nonlocal batches
        batches += 1
        if batches == 1:
            await first_is_taken.wait()
        await take(type, claimed)

    second.placement._take = take_the_first_slowly  # type: ignore[method-assign]
    await second.start()
    fleet.hosts["b"] = second
    await until(lambda: batches > 2)
    first_is_taken.set()
    await until(fleet.is_even)


async def test_what_a_host_is_claiming_counts_as_its_own_whatever_changes_meanwhile(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await fleet.join("b")
    await until(fleet.is_even)
    (_, partition), *_ = sorted(first.served)
    first.placement._coming.add(("cat", partition))
    del first.placement._held["cat", partition]
    for owner in first.placement._membership.members:
        first.placement._owners["cat"][partition] = Owner(owner, 1)
        assert partition in first.placement._assign("cat")
    first.placement._held["cat", partition] = fleet.keys.entries[f"cat.{partition}"].revision
    first.placement._coming.clear()


async def test_the_lease_of_a_leaving_host_is_not_read_for_each_partition_that_it_releases(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await fleet.join("b")
    await until(fleet.is_even)
    lease, reads = subjects.lease_key("pets", first.lease.incarnation), Counter[str]()
    read = fleet.hosts_bucket.get

    async def count(key: str) -> tuple[bytes | None, int]:
        reads[key] += 1
        return await read(key)

    fleet.hosts_bucket.get = count  # type: ignore[method-assign]
    await first.leave()
    await until(fleet.is_even)
    assert reads[lease] <= 1


async def test_hosts_that_are_long_gone_are_forgotten(fleet: Fleet) -> None:
    host = await fleet.join("a")
    for number in range(5):
        other = await fleet.join(f"b{number}")
        await until(fleet.is_even)
        await other.die()
        await until(fleet.is_even)
    await until(lambda: not host.placement._gone)
    assert host.membership._revisions.keys() == host.membership.members.keys()


async def test_a_dead_hosts_partitions_are_taken_with_its_name_once_its_lease_is_gone(fleet: Fleet) -> None:
    first, second = await fleet.join("a"), await fleet.join("b")
    await until(fleet.is_even)
    had = first.served
    await cancel_and_wait(first.tasks)
    await quiet()
    assert first.served == had
    second.claimed.clear()
    await first.die()
    await until(fleet.is_even)
    assert fleet.lost == [first.lease.incarnation]
    assert {owner for claimed in second.claimed for owner in claimed.values()} == {first.lease.incarnation}


async def test_a_host_that_died_while_it_drained_keeps_nothing_from_the_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "RETRIES", Backoff(0.01, 0.01))
    monkeypatch.setattr(placement, "LOOK_EVERY", 0.01)
    first = await fleet.join("a")
    await fleet.join("b")
    await until(fleet.is_even)
    first.may_hand_over.clear()
    leaving = asyncio.ensure_future(first.leave())
    await until(lambda: len(fleet.moving) > 0)
    await quiet()
    leaving.cancel()
    await first.die()
    await until(fleet.is_even)


async def test_what_was_claimed_without_an_acknowledgement_is_served_and_not_claimed_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "RETRIES", Backoff(0.01, 0.01))
    fleet.keys.lost_acks = [NatsTimeoutError(), NatsTimeoutError()]
    await fleet.join("a")
    await until(fleet.is_even)
    assert not fleet.keys.lost_acks
    assert fleet.keys.revision == COUNT * len(TYPES)


async def test_what_was_claimed_without_an_acknowledgement_is_released_if_another_host_should_have_it(
    fleet: Fleet,
) -> None:
    first, second = await fleet.join("a"), await fleet.join("b")
    await until(fleet.is_even)
    place = min(second.served)
    await first.membership.decline(*place)
    second.placement._held.pop(place)
    fleet.serving.pop(place)
    fleet.keys.write(f"{place[0]}.{place[1]}", first.lease.incarnation.encode())
    await until(fleet.is_even)
    assert fleet.serving[place] == second.lease.incarnation


async def test_a_claim_that_failed_is_tried_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "RETRIES", Backoff(0.01, 0.01))
    failures = [NatsTimeoutError() for _ in range(4)]

    def fail(key: str) -> None:
        if failures:
            raise failures.pop()

    fleet.keys.faults.append(fail)
    await fleet.join("a")
    await until(fleet.is_even)


async def test_one_taken_key_keeps_no_other_of_its_write_from_being_claimed(fleet: Fleet) -> None:
    other = fleet.keys.write("cat.3", b"other.1")
    hidden = fleet.keys.hidden
    hidden.add("cat.3")
    await fleet.join("a")
    expected = {f"cat.{each}" for each in range(COUNT) if each != 3} | {f"dog.{each}" for each in range(COUNT)}
    await until(lambda: {key for key in fleet.keys.entries if fleet.keys.value(key).startswith("a.")} == expected)
    assert fleet.keys.entries["cat.3"].revision == other


async def test_a_lease_that_cant_be_read_keeps_no_partition_from_being_claimed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "RETRIES", Backoff(0.01, 0.01))
    monkeypatch.setattr(placement, "LOOK_EVERY", 0.01)
    first = await fleet.join("a")
    await until(fleet.is_even)
    await first.die()
    fleet.keys.write("cat.3", None)
    fleet.hosts_bucket.unread = [NatsTimeoutError() for _ in range(4)]
    await fleet.join("b")
    await until(fleet.is_even)
    assert not fleet.hosts_bucket.unread


async def test_a_host_whose_partition_was_taken_gives_up_its_lease(fleet: Fleet) -> None:
    host = await fleet.join("a")
    await until(fleet.is_even)
    fleet.keys.write("cat.3", b"other.1234")
    await until(lambda: host.lease.ended)


async def test_a_release_is_tried_until_it_is_known_to_be_done(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    failures = 3

    def fail(key: str) -> None:
        nonlocal failures
        failures -= 1
        if failures == 0:
            fleet.keys.faults.clear()
        raise NatsTimeoutError

    fleet.keys.faults.append(fail)
    fleet.keys.lost_acks = [NatsTimeoutError(), NatsTimeoutError()]
    await fleet.join("b")
    await until(fleet.is_even)
    assert not first.lease.ended
    assert (failures, fleet.keys.lost_acks) == (0, [])


@pytest.mark.parametrize("part", ["_take", "_hand_over"])
async def test_a_host_that_cant_serve_or_hand_over_gives_up_its_lease(fleet: Fleet, part: str) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)

    async def fail(*args: Any) -> None:
        raise RuntimeError("a bug")

    second = FakeHost(fleet, "b")
    broken = second if part == "_take" else first
    setattr(broken.placement, part, fail)
    await second.start()
    await until(lambda: broken.lease.ended)
    await second.die()


async def test_a_drain_ends_in_time_and_when_the_lease_is_lost(fleet: Fleet) -> None:
    host = await fleet.join("a")
    await until(fleet.is_even)
    await host.placement.stop()
    await host.placement.drain(0.0)
    assert len(host.served) == len(TYPES) * COUNT
    host.lease.end()
    await host.placement.drain(10.0)
    assert len(host.served) == len(TYPES) * COUNT


async def test_a_late_entry_of_a_watch_makes_no_host_own_what_it_has_released(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    await fleet.join("b")
    await until(fleet.is_even)
    place = next(place for place in sorted(fleet.serving) if place not in first.served)
    stale = Entry(f"{place[0]}.{place[1]}", first.lease.incarnation.encode(), 1)
    first.placement._note(first.placement._owners, stale)
    assert first.placement.owner_of(*place) == fleet.hosts["b"].lease.incarnation


async def test_a_bucket_that_no_longer_shows_a_claim_ends_the_lease(fleet: Fleet) -> None:
    host = await fleet.join("a")
    await until(fleet.is_even)
    del fleet.keys.entries["cat.3"]
    fleet.keys.break_watches(NatsTimeoutError())
    await until(lambda: host.lease.rolled_back)


@pytest.mark.parametrize("revisions_back", [1, 0])
async def test_a_new_watch_notices_that_the_bucket_has_lost_what_was_known(fleet: Fleet, revisions_back: int) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    second = await fleet.join("b")
    await until(fleet.is_even)
    type, number = next(place for place in sorted(fleet.serving) if place in second.served)
    known = first.placement._owners
    before = {name: dict(owners) for name, owners in known.items()}
    # Either the release of this host is lost, or somebody else has written under the same revision since.
    found = {name: dict(owners) for name, owners in known.items()}
    found[type][number] = Owner(first.lease.incarnation, known[type][number].revision - revisions_back)
    with pytest.raises(RolledBack):
        first.placement._adopt(found, before)


async def test_an_entry_under_a_known_revision_with_another_owner_ends_the_lease(fleet: Fleet) -> None:
    host = await fleet.join("a")
    await until(fleet.is_even)
    revision = host.placement._owners["cat"][3].revision
    with pytest.raises(RolledBack):
        host.placement._note(host.placement._owners, Entry("cat.3", b"other.1", revision))


async def test_a_bucket_that_lost_entries_ends_the_leases(fleet: Fleet) -> None:
    host = await fleet.join("a")
    await until(fleet.is_even)
    fleet.keys.break_watches(RolledBack("partitions"))
    await until(lambda: host.lease.rolled_back)
    other = await fleet.join("b")
    await other.membership.loaded.wait()
    fleet.hosts_bucket.break_watches(RolledBack("hosts"))
    await until(lambda: other.lease.rolled_back)


async def test_a_claim_of_what_the_bucket_has_lost_ends_the_lease(fleet: Fleet) -> None:
    fleet.keys.revision = 50
    fleet.keys.write("cat.3", b"gone.1")
    host = await fleet.join("a")
    await until(lambda: host.placement.owner_of("cat", 3) == "gone.1")
    # A power cut has undone the last write of the key, and others have filled the bucket again.
    fleet.keys.entries["cat.3"] = Entry("cat.3", b"gone.0", 7)

    await until(lambda: host.lease.ended)

    assert host.lease.rolled_back


async def test_a_watch_that_was_lost_starts_again(fleet: Fleet) -> None:
    for name in "ab":
        await fleet.join(name)
    await until(fleet.is_even)
    fleet.keys.break_watches(NatsTimeoutError())
    fleet.hosts_bucket.break_watches(NatsTimeoutError())
    await fleet.join("c")
    await until(fleet.is_even)


async def test_a_type_is_served_only_by_hosts_that_have_it(fleet: Fleet) -> None:
    old = await fleet.join("old", types=("cat",))
    new = await fleet.join("new")
    await until(lambda: len(fleet.serving) == len(TYPES) * COUNT and len(old.served) == COUNT // 2)
    assert new.served >= {("dog", each) for each in range(COUNT)}


async def test_a_declined_partition_moves_to_a_host_that_accepts_it(fleet: Fleet) -> None:
    first, second = await fleet.join("a"), await fleet.join("b")
    await until(fleet.is_even)
    _, partition = next(place for place in sorted(first.served) if place[0] == "cat")
    await first.membership.decline("cat", partition)
    await until(lambda: ("cat", partition) in second.served)
    await until(fleet.is_even)
    assert ("cat", partition) in second.served


async def test_a_host_that_was_wrongly_removed_says_again_what_it_is(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await fleet.join("b")
    await until(fleet.is_even)
    fleet.hosts_bucket.write(subjects.member_key("pets", first.lease.incarnation), None)
    await until(lambda: fleet.hosts_bucket.value(subjects.member_key("pets", first.lease.incarnation)) != "")
    await until(fleet.is_even)


async def test_what_a_host_has_said_that_died_long_ago_is_removed(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    await first.die()
    del fleet.hosts_bucket.entries[subjects.lease_key("pets", first.lease.incarnation)]
    await fleet.join("b")
    await until(fleet.is_even)
    assert len(await fleet.hosts_bucket.keys("member.")) == 1


async def test_a_host_whose_lease_a_watch_has_not_shown_is_not_removed(fleet: Fleet) -> None:
    first = await fleet.join("a")
    await until(fleet.is_even)
    fleet.hosts_bucket.hidden.add(subjects.lease_key("pets", first.lease.incarnation))
    await fleet.join("b")
    await until(fleet.is_even)
    fleet.hosts_bucket.faults.append(lambda key: pytest.fail(f"{key} was written"))
    await quiet()


async def test_each_host_watches_few_leases_and_all_of_the_dead_are_removed(fleet: Fleet) -> None:
    hosts = [await fleet.join(f"h{number:02}") for number in range(12)]
    await until(fleet.is_even)
    for watch, _ in fleet.hosts_bucket._watches:
        assert len(watch) <= 3
    for host in hosts[:8]:
        await host.die()
    await until(fleet.is_even)


@pytest.mark.parametrize("seed", range(20))
async def test_any_sequence_of_changes_ends_even_and_no_two_hosts_ever_serve_one_partition(
    fleet: Fleet, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "RETRIES", Backoff(0.01, 0.01))
    monkeypatch.setattr(placement, "LOOK_EVERY", 0.01)
    chance = random.Random(seed)
    leaving: list[asyncio.Future[None]] = []
    for number in range(12):
        alive = [host for host in fleet.alive() if host.placement and not host.placement._stopped]
        action = chance.choice(["join", "join", "leave", "die", "wait"])
        if action == "join" or len(alive) < 2:
            await fleet.join(f"h{number}")
        elif action == "leave":
            leaving.append(asyncio.ensure_future(chance.choice(alive).leave()))
        elif action == "die":
            await chance.choice(alive).die()
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
    await asyncio.gather(*leaving)
    await until(fleet.is_even)


async def test_a_host_that_commits_in_another_form_gets_no_partition_and_is_named(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    await fleet.join("a")
    await until(fleet.is_even)

    former = {"service": "pets", "replica": 0, "version": "1", "since": 0.0, "types": TYPES}
    fleet.hosts_bucket.write(subjects.lease_key("pets", "b.1"), b"1")
    fleet.hosts_bucket.write(subjects.member_key("pets", "b.1"), msgspec.json.encode(former))
    await fleet.join("c")
    await until(fleet.is_even)

    lines = {each.getMessage() for each in caplog.records if each.levelname == "ERROR"}
    assert lines == {"the host b.1 has another version that can't run beside this one: stop it"}


async def test_a_host_of_the_former_version_can_t_read_what_this_one_is_and_says_so() -> None:
    class FormerMember(msgspec.Struct, frozen=True, kw_only=True):
        service: str
        replica: int
        version: str
        since: float
        types: list[str]
        declined: dict[str, list[int]] = {}

    own = Member(service="pets", replica=0, release="1", since=0.0, types=["cat"], form=FORM)

    with pytest.raises(msgspec.DecodeError, match="missing required field `version`"):
        msgspec.json.decode(msgspec.json.encode(own), type=FormerMember)


@pytest.mark.parametrize("lives", [True, False])
async def test_a_host_does_not_join_while_one_that_commits_in_another_form_lives(lives: bool) -> None:
    bucket: Any = MemoryBucket()
    common = {"service": "pets", "replica": 0, "since": 0.0, "types": ["cat"]}
    for name, description in (("a.1", {"form": FORM}), ("b.2", {"version": "1"}), ("c.3", {"form": "?"})):
        bucket.write(subjects.member_key("pets", name), msgspec.json.encode(common | description))
        if lives or name == "a.1":
            bucket.write(subjects.lease_key("pets", name), b"1")

    if lives:
        with pytest.raises(SettingsError, match=r"the host [bc]\.[23] .*: stop all hosts of pets first"):
            await check_forms(bucket, "pets")
    else:
        await check_forms(bucket, "pets")
    await check_forms(bucket, "others")
