"""A request that meets a handover is repeated soon after it, without many attempts."""

from __future__ import annotations

import pytest

from aidevos.durable.client.client import LONGEST, SHARE_OF_WAIT, SHORTEST, pause_before_repeat


def repeat_until(end: float) -> tuple[float, int]:
    """Return when a request is first repeated after `end` seconds, and how often it was repeated until then."""
    waited, attempts = 0.0, 0
    while waited < end:
        attempts += 1
        waited += pause_before_repeat(waited, attempts)
    return waited, attempts


@pytest.mark.parametrize("handover", [0.001, 0.01, 0.03, 0.06, 0.1, 0.2, 0.5, 1.0, 1.9])
def test_a_request_waits_little_longer_than_the_handover_takes(handover: float) -> None:
    for _ in range(100):
        waited, attempts = repeat_until(handover)
        assert waited - handover <= min(max(SHORTEST, handover * SHARE_OF_WAIT), LONGEST)
        # Jitter may halve each pause.
        assert attempts <= 30 + handover / (LONGEST / 2)


def test_requests_that_were_refused_together_are_not_repeated_together() -> None:
    assert len({pause_before_repeat(0.0, 1) for _ in range(100)}) > 90


def test_a_request_that_nobody_takes_for_long_is_repeated_seldom() -> None:
    assert repeat_until(30.0)[1] - repeat_until(2.0)[1] < 28.0 / 0.25 + 20
