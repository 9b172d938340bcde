"""The memory of states is estimated from a few of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos.durable.objects import weight
from aidevos.durable.objects.weight import Weight
from aidevos.durable.store import codec


class State(msgspec.Struct):
    value: Any = None


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("x" * 10_000, 1.0, 1.3),
        (list(range(10_000, 20_000)), 3.0, 5.5),
        ({f"key{number}": {"text": "short", "at": number / 7} for number in range(500)}, 4.0, 14.0),
    ],
)
def test_short_values_weigh_more_than_long_ones(value: Any, low: float, high: float) -> None:
    weighed = Weight()
    weighed.sample(State(value))
    assert low < weighed.factor < high


def test_large_states_count_more_than_small_ones() -> None:
    weighed = Weight()
    weighed.sample(State())
    alone = weighed.factor
    weighed.sample(State("x" * 100_000))
    assert weighed.factor < 1.2 < alone


def test_few_states_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    measure = weight._measure
    monkeypatch.setattr(weight, "_measure", lambda state: measured.append(1) or measure(state))
    weighed = Weight()
    for number in range(1000):
        weighed.sample(State(codec.encode({"n": number})))
    assert len(measured) < 25
