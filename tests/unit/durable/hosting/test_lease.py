"""A lease counts from before its renewal was sent, and survives slow and lost acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from aidevos.durable.base.clock import ManualClock
from aidevos.durable.client.bucket import RevisionConflict, RolledBack
from aidevos.durable.hosting.lease import MARGIN, Lease

TTL = 3


class FakeBucket:
    """One key. `faults` are called after each write has been applied; one that raises loses the acknowledgement."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, int]] = {}
        self.deleted: list[str] = []
        self.made_anew = False
        self.faults: list[Callable[[], None]] = []
        # The next read is answered when this is set, with what the key was before.
        self.held: asyncio.Event | None = None

    async def compare_with_past(self) -> None:
        if self.made_anew:
            raise RolledBack("hosts")

    async def keys(self, prefix: str) -> list[str]:
        return [key for key in self.values if key.startswith(prefix)]

    async def set(self, key: str, value: bytes, revision: int, ttl: float | None = None) -> int:
        if self.values.get(key, (b"", 0))[1] != revision:
            raise RevisionConflict
        self.values[key] = value, revision + 1
        if self.faults:
            self.faults.pop(0)()
        return revision + 1

    async def get(self, key: str) -> tuple[bytes | None, int]:
        found, (held, self.held) = self.values.get(key, (None, 0)), (self.held, None)
        if held is not None:
            await held.wait()
        return found

    async def delete(self, key: str, revision: int | None = None, *, forget_after: int) -> None:
        self.deleted.append(key)
        self.values.pop(key, None)


class Setup:
    def __init__(self) -> None:
        self.bucket = FakeBucket()
        self.clock = ManualClock()
        self.stalled = False
        bucket: Any = self.bucket
        self.lease = Lease(bucket, "test", "host", self.clock, TTL, run=_here, is_stalled=lambda: self.stalled)

    def lose_acknowledgement(self) -> None:
        raise NatsTimeoutError


async def _here(work: Coroutine[Any, Any, None]) -> None:
    await work


@pytest.fixture
async def setup() -> Setup:
    return Setup()


async def test_a_lease_counts_from_before_the_send_not_from_the_acknowledgement(setup: Setup) -> None:
    setup.bucket.faults = [lambda: setup.clock.advance(1.0)]
    await setup.lease.acquire()
    assert setup.lease.valid()

    setup.clock.advance(TTL - MARGIN - 1.0)

    assert not setup.lease.valid()


async def test_a_renewal_counts_from_before_its_send(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.clock.advance(1.0)
    setup.bucket.faults = [lambda: setup.clock.advance(1.0)]

    await setup.lease.renew()

    setup.clock.advance(TTL - MARGIN - 1.0 - 0.001)
    assert setup.lease.valid()
    setup.clock.advance(0.001)
    assert not setup.lease.valid()


async def test_an_answer_that_another_renewal_has_overtaken_is_no_sign_of_lost_entries(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.bucket.faults = [setup.lose_acknowledgement]
    await setup.lease.renew()
    setup.bucket.held = held = asyncio.Event()
    overtaken = asyncio.create_task(setup.lease.renew())
    await asyncio.sleep(0)
    await setup.lease.renew()
    held.set()
    await overtaken

    assert setup.lease.valid()
    assert not setup.lease.rolled_back
    # The next one is the seventh that is sent, and the fifth that is written: it knows the last revision.
    await setup.lease.renew()
    assert [*setup.bucket.values.values()] == [(b"7", 5)]


async def test_a_renewal_whose_acknowledgement_is_lost_counts_once_the_next_one_finds_it(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.clock.advance(1.0)
    setup.bucket.faults = [setup.lose_acknowledgement, setup.lose_acknowledgement]
    await setup.lease.renew()
    setup.clock.advance(TTL - MARGIN - 1.0)
    assert not setup.lease.valid()

    # This one conflicts with the first, finds it, and its own acknowledgement is lost too.
    await setup.lease.renew()

    assert setup.lease.valid()
    setup.clock.advance(1.0)
    assert not setup.lease.valid()


async def test_a_suspended_lease_is_invalid_until_a_renewal_that_was_sent_later(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.clock.advance(0.1)
    setup.bucket.faults = [setup.lease.suspend]
    await setup.lease.renew()
    assert not setup.lease.valid()

    setup.clock.advance(0.1)
    await setup.lease.renew()

    assert setup.lease.valid()


async def test_a_stalled_loop_renews_nothing(setup: Setup) -> None:
    await setup.lease.acquire()
    before = dict(setup.bucket.values)
    setup.stalled = True

    await setup.lease.renew()

    assert setup.bucket.values == before
    assert setup.lease.valid()


async def test_a_key_that_is_gone_is_never_made_again(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.bucket.values.clear()

    await setup.lease.renew()

    assert not setup.lease.valid()
    await asyncio.wait_for(setup.lease.lost.wait(), 1)
    await setup.lease.renew()
    assert setup.bucket.values == {}


async def test_a_lease_that_was_ended_is_not_revived_by_a_renewal_in_progress(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.clock.advance(0.1)
    setup.bucket.faults = [setup.lease.end]

    await setup.lease.renew()

    assert not setup.lease.valid()
    assert setup.lease.lost.is_set()


async def test_a_host_removes_the_keys_of_its_predecessors_only(setup: Setup) -> None:
    setup.bucket.values = {"lease.test.host.aa": (b"1", 1), "lease.test.host2.aa": (b"1", 1)}

    await setup.lease.acquire()

    assert setup.bucket.deleted == ["lease.test.host.aa"]


async def test_a_released_key_is_deleted(setup: Setup) -> None:
    await setup.lease.acquire()

    await setup.lease.release()

    assert setup.bucket.values == {}
    assert not setup.lease.valid()


async def test_a_lease_that_was_ended_stays_ended_whatever_the_connections_do(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.lease.end()
    setup.lease.suspend()
    await setup.lease.renew()
    assert not setup.lease.valid()
    assert setup.bucket.values[f"lease.test.{setup.lease.incarnation}"][0] == b"1"


async def test_a_connection_that_comes_back_before_the_lease_is_acquired_makes_no_key(setup: Setup) -> None:
    await setup.lease.renew()
    assert setup.bucket.values == {}


async def test_a_bucket_in_an_earlier_state_ends_the_lease_as_rolled_back(setup: Setup) -> None:
    await setup.lease.acquire()
    key = f"lease.test.{setup.lease.incarnation}"
    early = setup.bucket.values[key]
    await setup.lease.renew()
    setup.bucket.values[key] = (early[0], early[1] + 7)
    await setup.lease.renew()
    await asyncio.sleep(0)
    assert (setup.lease.lost.is_set(), setup.lease.rolled_back) == (True, True)


async def test_a_bucket_that_was_made_anew_ends_the_lease_as_rolled_back(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.bucket.values.clear()
    setup.bucket.made_anew = True
    await setup.lease.renew()
    await asyncio.sleep(0)
    assert (setup.lease.lost.is_set(), setup.lease.rolled_back) == (True, True)


async def test_an_expired_lease_is_not_a_rollback(setup: Setup) -> None:
    await setup.lease.acquire()
    setup.bucket.values.clear()
    await setup.lease.renew()
    await asyncio.sleep(0)
    assert (setup.lease.lost.is_set(), setup.lease.rolled_back) == (True, False)
