"""Attempts within a window, per account and per address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from aidevos.security import throttle
from aidevos.security.throttle import AddressThrottle, Throttle

LIMIT, WINDOW = 3, 60.0


def admitted(throttle: AddressThrottle, address: str, now: float) -> bool:
    try:
        throttle.admit(address, now)
    except Failure:
        return False
    return True


def test_a_throttle_counts_attempts_of_the_window_alone() -> None:
    throttle = Throttle(2, 60.0, "failed logins", [])
    throttle.count(0.0)
    throttle.count(50.0)
    throttle.check(60.0)
    throttle.count(61.0)

    with pytest.raises(Failure, match="too many failed logins"):
        throttle.check(109.0)
    throttle.check(110.0)


@given(st.lists(st.integers(0, 200), max_size=60).map(sorted))
def test_no_window_has_more_than_the_limit_and_each_refusal_had_a_full_one(times: list[int]) -> None:
    addresses = AddressThrottle(LIMIT, WINDOW, "logins")
    taken: list[int] = []
    for now in times:
        recent = [moment for moment in taken if moment + WINDOW > now]
        assert admitted(addresses, "192.0.2.1", now) == (len(recent) < LIMIT)
        if len(recent) < LIMIT:
            taken.append(now)


def test_after_the_time_that_a_refusal_tells_the_next_one_passes() -> None:
    addresses = AddressThrottle(1, WINDOW, "logins")
    addresses.admit("", 0.5)
    with pytest.raises(Failure) as refused:
        addresses.admit("", 10.0)

    assert (refused.value.code, refused.value.retry_after) == ("rate-limited", 51)
    assert admitted(addresses, "", 61.0)


def test_one_ipv6_network_counts_as_one_address() -> None:
    addresses = AddressThrottle(1, WINDOW, "logins")
    addresses.admit("2001:db8::1", 0.0)

    assert not admitted(addresses, "2001:db8::ffff:2", 1.0)
    assert admitted(addresses, "2001:db8:0:1::1", 1.0)
    assert admitted(addresses, "192.0.2.1", 1.0)
    assert admitted(addresses, "192.0.2.2", 1.0)


def test_the_addresses_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_KEYS", 2)
    addresses = AddressThrottle(1, WINDOW, "logins")
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        addresses.admit(address, 0.0)

    assert not admitted(addresses, "192.0.2.3", 1.0)
    assert admitted(addresses, "192.0.2.1", 1.0)
