"""Rate limits across processes: together as strict as in one, and open while quotas are unavailable."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aidevos.contracts.api_keys import KeyLimit, RateLimit
from aidevos.contracts.errors import Failure
from aidevos.contracts.rate_limits import LimitPolicy
from aidevos.durable.access.limiter import RateLimited, RateLimiter, Verdict
from aidevos.durable.access.resolving import resolve_when_ready
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import load
from aidevos.testing import ObjectKit
from services.api_gateway.quota import QuotaDO
from tests.support.kits import quiet
from tests.support.metrics import Growth

ADA = Principal("ada")


class Fleet:
    """Processes that share the quotas and the clock of one kit."""

    def __init__(self, kit: ObjectKit, processes: int = 1, rate: int = 1000, burst: int = 2000) -> None:
        self.kit = kit
        self.asked = 0
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()
        bounds = load({}, rate_limit=rate, rate_burst=burst)
        self.limiters = [
            RateLimiter(bounds, self, lambda: "", kit.clock.now)  # type: ignore[arg-type]
            for _ in range(processes)
        ]

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        self.asked += 1
        if self.down:
            raise Failure("unavailable", "nobody serves quotas")
        reply = await self.kit.request(subject, payload)
        await self.answers.wait()
        return reply

    async def spend(
        self, caller: Principal = ADA, process: int = 0, address: str = "", group: str = "", cost: int = 1
    ) -> Verdict:
        return await resolve_when_ready(self.limiters[process].spend, caller, address, group, cost)

    async def spend_more(self, cost: int, caller: Principal = ADA, process: int = 0) -> Verdict:
        return await resolve_when_ready(self.limiters[process].spend_more, caller, "", "", cost)

    async def passed(self, times: int, caller: Principal = ADA, **where: Any) -> int:
        """Send `times` requests, and return how many are admitted."""
        count = 0
        for number in range(times):
            try:
                await self.spend(caller, number % len(self.limiters), **where)
            except RateLimited:
                continue
            count += 1
            await asyncio.sleep(0)
        return count


@pytest.fixture
async def kit() -> Any:
    async with ObjectKit(QuotaDO) as kit:
        yield kit


async def test_four_processes_together_let_no_more_than_the_burst_through_and_nearly_all_of_it(kit: ObjectKit) -> None:
    fleet = Fleet(kit, processes=4)

    assert 1900 <= await fleet.passed(3000) <= 2000


async def test_then_they_let_the_flow_through(kit: ObjectKit) -> None:
    fleet = Fleet(kit, processes=4)
    await fleet.passed(3000)
    count = 0
    for _ in range(200):
        kit.clock.advance(0.05)
        count += await fleet.passed(80)

    assert 9_500 <= count <= 10_500


async def test_five_a_minute_are_five_at_once_and_then_one_each_twelve_seconds_in_whichever_process(
    kit: ObjectKit,
) -> None:
    fleet = Fleet(kit, processes=3)
    key = Principal("ada", key="k", limits=RateLimit(5, 60.0))

    assert await fleet.passed(12, key) == 5
    kit.clock.advance(11.9)
    assert await fleet.passed(6, key) == 0
    kit.clock.advance(0.2)
    assert await fleet.passed(6, key) == 1


async def test_a_key_s_own_limit_is_beside_the_policies_and_raises_none(kit: ObjectKit) -> None:
    fleet = Fleet(kit, rate=3, burst=3)
    wide = Principal("ada", key="k", limits=RateLimit(1000, 1.0))

    assert await fleet.passed(10, wide) == 3
    kit.clock.advance(1.0)
    assert await fleet.passed(10, wide) == 3


async def test_the_keys_that_a_key_has_made_spend_its_limit_too(kit: ObjectKit) -> None:
    fleet = Fleet(kit)
    parent = Principal("ada", key="p", limits=RateLimit(5, 60.0))
    spends = (KeyLimit("p", RateLimit(5, 60.0)),)
    child = Principal("ada", key="c", parent_limits=spends)
    narrow = Principal("ada", key="n", limits=RateLimit(2, 60.0), parent_limits=spends)

    assert await fleet.passed(1, parent) == 1
    assert await fleet.passed(9, narrow) == 2
    assert await fleet.passed(9, child) == 2
    assert await fleet.passed(9, parent) == 0


async def test_a_request_that_one_limit_refuses_is_spent_from_no_other(kit: ObjectKit) -> None:
    fleet = Fleet(kit, rate=1, burst=1)
    fleet.limiters[0].set_policies({"data": LimitPolicy(10, 60.0, applies_to=["data"])})
    key, same = Principal("ada", key="k", limits=RateLimit(4, 60.0)), Principal("ada", key="k")

    assert await fleet.passed(9, key, group="users") == 1
    assert await fleet.passed(9, key, group="data") == 3
    assert await fleet.passed(9, same, group="data") == 7


async def test_a_refusal_tells_when_to_come_again(kit: ObjectKit) -> None:
    fleet = Fleet(kit)
    key = Principal("ada", key="k", limits=RateLimit(1, 60.0))
    first, growth = await fleet.spend(key), Growth()
    with pytest.raises(RateLimited) as refused:
        await fleet.spend(key)

    assert growth.of("aidevos_refused_requests_total", limit="key") == 1
    assert (first.remaining, first.reset) == (0, pytest.approx(60.0))
    assert refused.value.retry_after == pytest.approx(60.0)
    assert first.headers() == ((b"ratelimit-policy", b'"key";q=1;w=60'), (b"ratelimit", b'"key";r=0;t=60;cost=1'))


async def test_while_requests_flow_none_waits(kit: ObjectKit) -> None:
    fleet = Fleet(kit)
    await fleet.spend()
    for _ in range(500):
        fleet.limiters[0].spend(ADA, "", "")
        await quiet()

    assert fleet.asked < 80


async def test_each_caller_has_a_limit_of_its_own_and_nobody_s_is_the_address(kit: ObjectKit) -> None:
    fleet = Fleet(kit, rate=2, burst=2)

    assert await fleet.passed(5) == 2
    assert await fleet.passed(5, Principal("bob")) == 2
    assert await fleet.passed(5, ANONYMOUS, address="192.0.2.1") == 2
    assert await fleet.passed(5, ANONYMOUS, address="192.0.2.2") == 2
    assert await fleet.passed(5, Principal("ada", key="k")) == 2


async def test_a_named_limit_counts_for_each_caller_and_for_each_address_without_one(kit: ObjectKit) -> None:
    limiter = Fleet(kit).limiters[0]

    async def spend(caller: Principal, address: str) -> int:
        limit = RateLimit(2, 600.0)
        return (await resolve_when_ready(limiter.spend_on, "route-r", limit, caller, address)).remaining

    callers = [(ADA, "192.0.2.1"), (ANONYMOUS, "192.0.2.1"), (ANONYMOUS, "192.0.2.2"), (Principal("bob"), "192.0.2.1")]
    assert [await spend(*caller) for caller in callers] == [1, 1, 1, 1]


async def test_a_policy_counts_for_its_groups_apart_from_all_else(kit: ObjectKit) -> None:
    fleet = Fleet(kit)
    fleet.limiters[0].set_policies({"data": LimitPolicy(3, 60.0, applies_to=["data", "item"])})

    assert await fleet.passed(5, group="data") == 3
    assert await fleet.passed(5, group="item") == 0
    assert await fleet.passed(5, group="users") == 5


async def test_while_quotas_are_away_requests_pass_and_afterwards_count_again(kit: ObjectKit) -> None:
    fleet = Fleet(kit, rate=2, burst=2)
    fleet.down = True
    assert await fleet.passed(50) == 50
    assert fleet.asked == 1
    fleet.down = False
    kit.clock.advance(1.0)
    await fleet.spend()
    await quiet()

    assert await fleet.passed(50) <= 2


async def test_at_once_many_wait_for_one_answer(kit: ObjectKit) -> None:
    fleet = Fleet(kit)
    answers = await asyncio.gather(*(fleet.spend() for _ in range(15)))

    assert len(answers) == 15
    assert fleet.asked <= 2


async def test_the_callers_that_are_remembered_are_bounded(kit: ObjectKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aidevos.durable.access.limiter.MAX_BUCKETS", 10)
    fleet = Fleet(kit)
    for number in range(30):
        await fleet.spend(Principal(f"user{number}"))

    assert len(fleet.limiters[0]._buckets) == 10


async def test_a_request_is_charged_its_whole_cost_in_all_processes(kit: ObjectKit) -> None:
    fleet = Fleet(kit, processes=2, rate=100, burst=100)
    verdict = await fleet.spend(cost=70)
    await quiet()

    assert (verdict.cost, verdict.remaining) == (70, 30)
    assert await fleet.passed(100) == 30


async def test_a_request_may_overdraw_the_limit_and_then_nothing_passes_until_time_has_made_up_for_it(
    kit: ObjectKit,
) -> None:
    fleet = Fleet(kit, processes=2, rate=10, burst=10)
    verdict = await fleet.spend(cost=60)
    await quiet()

    assert (verdict.remaining, await fleet.passed(10)) == (0, 0)
    kit.clock.advance(5.0)
    assert await fleet.passed(10) == 0
    kit.clock.advance(0.2)
    assert await fleet.passed(10) == 2


async def test_a_caller_that_stays_away_owes_nothing_afterwards(kit: ObjectKit) -> None:
    fleet = Fleet(kit, rate=10, burst=10)
    await fleet.passed(5)
    await fleet.spend(cost=60)
    await quiet()
    kit.clock.advance(60.0)

    assert await fleet.passed(20) == 10


async def test_what_is_overdrawn_while_a_slice_is_fetched_is_paid_at_once_too(kit: ObjectKit) -> None:
    fleet = Fleet(kit, rate=10, burst=10)
    await fleet.spend()
    fleet.answers.clear()
    await fleet.spend_more(5)
    await quiet()
    await fleet.spend_more(60)
    fleet.answers.set()
    await quiet()
    kit.clock.advance(60.0)

    assert await fleet.passed(20) == 10


async def test_the_rest_of_an_admitted_request_may_overdraw_the_limit_once(kit: ObjectKit) -> None:
    fleet = Fleet(kit)
    key = Principal("ada", key="k", limits=RateLimit(1, 60.0))
    await fleet.spend(key)
    verdict = await fleet.spend_more(99, key)
    await quiet()

    assert (verdict.name, verdict.cost, verdict.remaining) == ("key", 99, 0)
    with pytest.raises(RateLimited) as refused:
        await fleet.spend_more(1, key)
    assert refused.value.retry_after == pytest.approx(100 * 60.0)


async def test_of_many_admitted_requests_one_overdraws_the_limit_in_each_process(kit: ObjectKit) -> None:
    fleet = Fleet(kit, processes=2, rate=10, burst=10)
    assert await fleet.passed(10) == 10
    counts = await asyncio.gather(
        *(fleet.spend_more(100, process=number % 2) for number in range(10)), return_exceptions=True
    )

    assert 1 <= sum(isinstance(each, Verdict) for each in counts) <= 2
    assert all(isinstance(each, (Verdict, RateLimited)) for each in counts)


async def test_what_was_overdrawn_while_quotas_were_away_is_charged_when_they_are_back(kit: ObjectKit) -> None:
    fleet = Fleet(kit, rate=10, burst=10)
    await fleet.spend()
    fleet.down = True
    await fleet.spend_more(30)
    await quiet()
    assert await fleet.passed(5) == 5
    fleet.down = False
    kit.clock.advance(1.0)
    await fleet.spend()
    await quiet()

    assert await fleet.passed(5) == 0


def test_items_that_are_read_cost_a_fraction_of_a_request(kit: ObjectKit) -> None:
    limiter = Fleet(kit).limiters[0]

    assert [limiter.price_page(items) for items in (0, 1, 50, 51, 500)] == [1, 1, 1, 2, 10]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2), st.sampled_from([1, 1, 3, 50]), st.booleans()), max_size=60)
)
def test_processes_together_charge_no_more_than_the_burst_the_flow_their_slices_and_an_overdraft_each(
    steps: list[tuple[float, int, int, bool]],
) -> None:
    async def run() -> None:
        async with ObjectKit(QuotaDO) as kit:
            fleet = Fleet(kit, processes=3, rate=10, burst=40)
            charged: list[int] = []
            elapsed = 0.0
            for pause, process, cost, in_two_steps in steps:
                kit.clock.advance(pause)
                elapsed += pause
                with suppress(RateLimited):
                    if in_two_steps and cost > 1:
                        charged.append((await fleet.spend(process=process)).cost)
                        charged.append((await fleet.spend_more(cost - 1, process=process)).cost)
                    else:
                        charged.append((await fleet.spend(process=process, cost=cost)).cost)
                await quiet()
            assert sum(charged) <= 40 + 10 * elapsed + 3 * 50

    asyncio.run(run())
