"""Attempts within a window, per account and per address."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from aidevos.durable.hosting.peers import Peers
from aidevos.security import throttle
from aidevos.security.throttle import AddressThrottle, Throttle

LIMIT, WINDOW = 3, 60.0


class Quotas:
    """The quotas of the fleet, as `QuotaDO` keeps them. While `failure` is set, none can be reached."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked = 0
        self.now = 0.0
        self._attempts: dict[str, list[float]] = {}

    async def call(self, type: str, id: str, method: str, *, kind: str, limit: int, window: float) -> float:
        assert (type, method, kind) == ("quota", "attempt", "logins")
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        counted = Throttle(limit, window, "", self._attempts.setdefault(id, []))
        wait = counted.wait(self.now)
        if not wait:
            counted.count(self.now)
        return wait


class Fleet:
    """Hosts that share the quotas, or that each have a share while they can't reach them."""

    def __init__(self, hosts: int = 1, limit: int = LIMIT) -> None:
        self.quotas = Quotas()
        self.peers = Peers(hosts)
        self.hosts = [AddressThrottle(limit, WINDOW, "logins", self.peers.share) for _ in range(hosts)]

    async def attempt(self, address: str, now: float, host: int = 0) -> Failure | None:
        """Return the refusal of an attempt at a host, or None if it was admitted."""
        self.quotas.now = now
        try:
            await self.hosts[host].admit(address, now, self.quotas.call)
        except Failure as failure:
            return failure
        return None

    async def admits(self, address: str, now: float, host: int = 0) -> bool:
        return await self.attempt(address, now, host) is None


def test_a_throttle_counts_attempts_of_the_window_alone() -> None:
    throttle = Throttle(2, 60.0, "failed logins", [])
    throttle.count(0.0)
    throttle.count(50.0)
    throttle.check(60.0)
    throttle.count(61.0)

    with pytest.raises(Failure, match="too many failed logins"):
        throttle.check(109.0)
    throttle.check(110.0)


@given(st.lists(st.floats(0, 200), min_size=3, max_size=9).map(sorted), st.floats(0, 7200))
def test_a_throttle_whose_clock_is_set_back_goes_on_as_if_no_time_had_passed(moments: list[float], back: float) -> None:
    throttle, steady = (Throttle(3, 60.0, "failed logins", []) for _ in range(2))
    for each in (throttle, steady):
        for moment in moments:
            each.count(moment)

    now = moments[-1]
    assert throttle.wait(now - back) == pytest.approx(steady.wait(now), abs=1e-6)
    throttle.count(now - back + 1)
    steady.count(now + 1)
    assert throttle.wait(now - back + 1) == pytest.approx(steady.wait(now + 1), abs=1e-6)


async def test_an_address_is_shut_out_no_longer_because_a_host_was_ahead_of_time() -> None:
    fleet = Fleet(limit=1)
    assert await fleet.admits("192.0.2.1", 3600.0)
    assert not await fleet.admits("192.0.2.1", 3601.0)

    # The host waits for one window, and the quota, which sees the attempt after that, for another.
    assert [await fleet.admits("192.0.2.1", 10.0 + past * WINDOW) for past in (0, 1, 2)] == [False, False, True]


async def test_a_refusal_of_a_quota_counts_no_longer_than_a_window() -> None:
    fleet = Fleet(hosts=2, limit=1)
    assert await fleet.admits("192.0.2.1", 3600.0, host=0)
    assert not await fleet.admits("192.0.2.1", 3600.0, host=1)

    outcomes = [await fleet.admits("192.0.2.1", 10.0 + past * WINDOW, host=1) for past in (0, 1)]
    assert outcomes == [False, True]


async def test_a_host_that_was_ahead_of_time_asks_quotas_again() -> None:
    fleet = Fleet()
    fleet.quotas.failure = Failure("unavailable", "no quota answers")
    assert await fleet.admits("192.0.2.1", 3600.0)
    fleet.quotas.failure = None

    assert await fleet.admits("192.0.2.2", 10.0)
    assert fleet.quotas.asked == 2


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2)), max_size=60).map(sorted))
def test_no_window_has_more_than_the_limit_and_each_refusal_had_a_full_one(attempts: list[tuple[int, int]]) -> None:
    async def run() -> None:
        fleet, taken = Fleet(hosts=3), []
        for now, host in attempts:
            recent = [moment for moment in taken if moment + WINDOW > now]
            assert await fleet.admits("192.0.2.1", now, host) == (len(recent) < LIMIT)
            if len(recent) < LIMIT:
                taken.append(now)

    asyncio.run(run())


@pytest.mark.parametrize("limit", [1, 2, 6, 7])
@pytest.mark.parametrize("hosts", [1, 2, 3])
async def test_without_quotas_each_host_admits_its_share(hosts: int, limit: int) -> None:
    fleet = Fleet(hosts, limit)
    fleet.quotas.failure = Failure("unavailable", "no quota answers")
    admitted = [[await fleet.admits("192.0.2.1", 0.0, host) for _ in range(limit)] for host in range(hosts)]
    again = await fleet.admits("192.0.2.1", WINDOW)

    assert [each.count(True) for each in admitted] == [max(limit // hosts, 1)] * hosts
    assert again


async def test_attempts_that_come_at_once_are_counted_like_others() -> None:
    fleet = Fleet(hosts=2)
    outcomes = await asyncio.gather(*(fleet.admits("192.0.2.1", 0.0, number % 2) for number in range(8)))

    assert outcomes.count(True) == LIMIT


async def test_after_the_time_that_a_refusal_tells_the_next_one_passes() -> None:
    fleet = Fleet(hosts=2, limit=1)
    await fleet.attempt("", 0.5, host=0)
    refused = [await fleet.attempt("", 10.0, host) for host in (0, 1)]

    assert [(each.code, each.retry_after) for each in refused if each] == [("rate-limited", 51)] * 2
    assert await fleet.admits("", 61.0, host=1)


async def test_refused_attempts_ask_the_quota_only_once() -> None:
    fleet = Fleet(hosts=2, limit=1)
    await fleet.attempt("192.0.2.1", 0.0, host=0)
    for moment in range(1, 50):
        await fleet.attempt("192.0.2.1", float(moment), host=0)
        await fleet.attempt("192.0.2.1", float(moment), host=1)

    assert fleet.quotas.asked == 2


@pytest.mark.parametrize("failure", [Failure("unavailable", "no"), Failure("unknown-type", "no"), TimeoutError()])
async def test_quotas_that_fail_refuse_nobody_and_are_asked_again_later(failure: Exception) -> None:
    fleet = Fleet()
    fleet.quotas.failure = failure
    without = [await fleet.admits("192.0.2.1", now) for now in (0.0, 0.5)]
    fleet.quotas.failure = None
    await fleet.attempt("192.0.2.2", 0.9)
    asked = fleet.quotas.asked
    await fleet.attempt("192.0.2.2", 1.0)

    assert (without, asked, fleet.quotas.asked) == ([True, True], 1, 2)


async def test_an_attempt_does_not_wait_for_a_quota_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "ASK_WITHIN", 0.01)

    async def call(*args: object, **options: object) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(5.0):
        await Fleet().hosts[0].admit("192.0.2.1", 0.0, call)


async def test_a_host_remembers_its_own_attempts_when_a_quota_has_forgotten_them() -> None:
    fleet = Fleet()
    admitted = [await fleet.admits("192.0.2.1", now) for now in (0.0, 1.0, 2.0)]
    fleet.quotas = Quotas()

    assert admitted == [True] * LIMIT
    assert not await fleet.admits("192.0.2.1", 3.0)


async def test_one_ipv6_network_counts_as_one_address() -> None:
    fleet = Fleet(limit=1)
    await fleet.attempt("2001:db8::1", 0.0)

    assert not await fleet.admits("2001:db8::ffff:2", 1.0)
    assert await fleet.admits("2001:db8:0:1::1", 1.0)
    assert await fleet.admits("192.0.2.1", 1.0)
    assert await fleet.admits("192.0.2.2", 1.0)


async def test_the_addresses_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_KEYS", 2)
    fleet = Fleet(limit=1)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        await fleet.attempt(address, 0.0)
    fleet.quotas = Quotas()

    assert not await fleet.admits("192.0.2.3", 1.0)
    assert await fleet.admits("192.0.2.1", 1.0)
