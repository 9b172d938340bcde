"""The rate limiter against its law: it admits exactly burst and flow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.security.gcra import Gcra, Policy

policies = st.builds(Policy, st.integers(1, 1000), st.sampled_from([0.5, 1.0, 60.0, 3600.0]), st.integers(0, 2000))
overdrafts = st.lists(st.tuples(st.floats(0, 3000), st.integers(1, 3000)), max_size=60)
steps = st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), max_size=60)


def test_five_a_minute_are_five_at_once_then_one_each_twelve_seconds() -> None:
    limit = Gcra(Policy(5, 60.0))

    assert [limit.take(1000.0) for _ in range(6)] == [1, 1, 1, 1, 1, 0]
    assert limit.retry_after(1000.0) == pytest.approx(12.0)
    assert limit.reset_after(1000.0) == pytest.approx(60.0)
    assert (limit.take(1011.9), limit.take(1012.0), limit.take(1012.0)) == (0, 1, 0)
    assert limit.take(1072.0, 9) == 5


@given(policies, steps)
def test_no_stretch_of_time_has_more_than_a_burst_and_the_flow(policy: Policy, steps: list[tuple[float, int]]) -> None:
    limit, now = Gcra(policy), 1_800_000_000.0
    taken: list[tuple[float, int]] = []
    for pause, wanted in steps:
        now += pause * policy.interval
        taken.append((now, limit.take(now, wanted)))
        total = 0
        for moment, count in reversed(taken):
            total += count
            assert total <= policy.capacity + (now - moment) / policy.interval + 1e-3


@given(policies, steps)
def test_a_request_is_refused_only_where_nothing_is_left_and_passes_after_the_time_told(
    policy: Policy, steps: list[tuple[float, int]]
) -> None:
    limit, now = Gcra(policy), 1000.0
    for pause, wanted in steps:
        now += pause * policy.interval
        left = limit.remaining(now)
        assert 0 <= left <= policy.capacity
        assert limit.take(now, wanted) == min(wanted, left)
        if limit.remaining(now):
            assert limit.retry_after(now) == 0.0
        else:
            assert 0 < limit.retry_after(now) <= policy.interval * (1 + 1e-6)
            assert limit.remaining(now + limit.retry_after(now) + 1e-9) >= 1
    assert limit.remaining(now + limit.reset_after(now)) == policy.capacity


@given(policies, overdrafts)
def test_no_stretch_of_time_has_more_than_a_burst_the_flow_and_one_overdraft(
    policy: Policy, steps: list[tuple[float, int]]
) -> None:
    limit, now = Gcra(policy), 1_800_000_000.0
    charged: list[tuple[float, int]] = []
    for pause, cost in steps:
        now += pause * policy.interval
        if limit.remaining(now) > 0:
            limit.charge(now, cost)
            charged.append((now, cost))
        total = -charged[-1][1] if charged else 0
        for moment, each in reversed(charged):
            total += each
            assert total <= policy.capacity + (now - moment) / policy.interval + 1e-2


@given(policies, st.integers(1, 3000))
def test_what_is_overdrawn_is_waited_for(policy: Policy, cost: int) -> None:
    limit, now = Gcra(policy), 1000.0
    limit.charge(now, policy.capacity + cost)

    assert limit.remaining(now) == -cost
    assert limit.take(now) == 0
    assert limit.retry_after(now) == pytest.approx((cost + 1) * policy.interval)
    assert limit.take(now + limit.retry_after(now) + 1e-6, 5) == 1


@given(policies, steps, st.floats(0, 7200), st.integers(1, 50), st.booleans())
def test_a_clock_that_is_set_back_stands_still(
    policy: Policy, steps: list[tuple[float, int]], back: float, wanted: int, charged: bool
) -> None:
    limit, steady, now = Gcra(policy), Gcra(policy), 1_800_000_000.0
    for pause, cost in steps:
        now += pause * policy.interval
        for each in (limit, steady):
            each.charge(now, cost) if charged else each.take(now, cost)

    assert abs(limit.take(now - back, wanted) - steady.take(now, wanted)) <= 1
    assert limit.retry_after(now - back) == pytest.approx(steady.retry_after(now), abs=policy.interval + 1e-3)


def test_a_clock_that_was_ahead_for_a_while_locks_nobody_out() -> None:
    limit = Gcra(Policy(1000, 1.0, 2000))
    limit.take(3600.0, 2000)

    assert limit.take(0.0) == 0
    assert limit.retry_after(0.0) <= 0.002
    assert limit.take(1.0, 2000) == 1000
