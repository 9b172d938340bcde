"""Conversions between times and text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.times import rfc3339, rfc3339_of, timestamp


@given(st.floats(0, 4e9, allow_nan=False))
def test_seconds_become_the_text_of_their_moment(now: float) -> None:
    assert rfc3339_of(now) == rfc3339(timestamp(now))
