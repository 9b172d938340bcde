"""The recorded counts of the hot paths, and the verdict on new ones.

Promise: a path that costs more than it may fails the guard, and so does a path without a figure or a figure without a
path. On another interpreter or processor nothing is compared, because nothing would follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("figures.json")
# A path may cost this much more than its figure. Counts of the same code differ by less than one percent.
TOLERANCE = 0.04


class Figures(msgspec.Struct):
    """Thousands of instructions per request of each path, and the platform that they were counted on."""

    platform: str
    paths: dict[str, float]


class Verdict(msgspec.Struct):
    """The lines to print, and whether the guard has failed."""

    lines: list[str]
    failed: bool


def read() -> Figures:
    return msgspec.json.decode(FILE.read_bytes(), type=Figures)


def write(figures: Figures) -> None:
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def judge(recorded: Mapping[str, float], counted: Mapping[str, float]) -> Verdict:
    lines = [f"{name:32} {_describe(recorded.get(name), counted.get(name))}" for name in {**recorded, **counted}]
    slower = [name for name in recorded.keys() & counted.keys() if counted[name] > recorded[name] * (1 + TOLERANCE)]
    return Verdict(lines, failed=bool(slower) or recorded.keys() != counted.keys())


def _describe(recorded: float | None, counted: float | None) -> str:
    if counted is None:
        return "FAILED: no such path; renew the figures"
    if recorded is None:
        return f"{counted:10,.2f} FAILED: no figure; renew the figures"
    change = counted / recorded - 1
    verdict = "SLOWER" if change > TOLERANCE else "faster: renew the figures" if change < -TOLERANCE else "as recorded"
    return f"{counted:10,.2f} {change:+7.1%} {verdict}"
