"""Times and sizes with units, as people write them: `1h30m`, `500ms`, `8MB` (8,000,000 bytes), `8MiB` (8,388,608)."""

from __future__ import annotations

import re
from collections.abc import Mapping

TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
SIZES = {
    "b": 1.0,
    **{f"{prefix}b": 1000.0**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024.0**power for power, prefix in enumerate("kmgt", 1)},
}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_is_number = re.compile(_NUMBER).fullmatch
_is_quantity = re.compile(rf"(?:{_NUMBER} *[A-Za-z]+ *)+").fullmatch
_find_parts = re.compile(rf"({_NUMBER}) *([A-Za-z]+)").findall


def parse_time(text: str) -> float:
    """Return seconds. A number without a unit is in seconds. Raises `ValueError`."""
    return _parse(text, TIMES, "a time", "90, 15m or 1h30m")


def parse_size(text: str) -> float:
    """Return bytes. A number without a unit is in bytes. Raises `ValueError`."""
    return _parse(text, SIZES, "a size", "4096, 8MB or 8MiB")


def _parse(text: str, units: Mapping[str, float], kind: str, examples: str) -> float:
    text = text.strip()
    if _is_number(text):
        return float(text)
    parts = _find_parts(text) if _is_quantity(text) else []
    if not parts or any(unit.lower() not in units for _, unit in parts):
        raise ValueError(f"it isn't {kind} like {examples}")
    # Rounded to what people can mean, so that 1.1h is 3960 and not 3960.0000000000005.
    return round(sum(float(number) * units[unit.lower()] for number, unit in parts), 6)
