"""Times and sizes with units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.quantities import SIZES, TIMES, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("500ms", 0.5), ("15m", 900), ("15 min", 900), ("1h30m", 5400), ("7D", 604_800)],
)
def test_a_time_has_units_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "bytes"), [("4096", 4096), ("8MB", 8_000_000), ("8MiB", 8_388_608), ("1.5 kB", 1500), ("2gib", 2**31)]
)
def test_a_size_has_units_or_is_in_bytes(text: str, bytes: float) -> None:
    assert parse_size(text) == bytes


@pytest.mark.parametrize("text", ["", "m", "15x", "1h30", "30 1h", "-5", "1e3", "nan", "inf", "8M B", "0x10", "5,300"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it isn't a time"):
        parse_time(text)
    with pytest.raises(ValueError, match="it isn't a size"):
        parse_size(text)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(TIMES))), min_size=1, max_size=4))
def test_the_parts_of_a_time_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_time(text) == pytest.approx(sum(number * TIMES[unit] for number, unit in parts))


@given(st.integers(0, 10**6), st.sampled_from(sorted(SIZES)))
def test_a_unit_of_a_size_multiplies(number: int, unit: str) -> None:
    assert parse_size(f"{number} {unit.upper()}") == number * parse_size(f"1{unit}")
