"""Shrinking of a failed run: the shortest plan that still shows a violation.

Faults and steps are left out, half of them at first and then single ones, for as long as the run still fails. What else
the seed decides changes with each plan, so this finds a short plan, not the shortest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from aidevos.testing.simulation.plan import Plan

Item = TypeVar("Item")
# Runs that one shrinking may take.
MOST_RUNS = 200


def shrink(plan: Plan, fails: Callable[[Plan], bool], most: int = MOST_RUNS) -> Plan:
    """Return a shorter plan for which `fails` returns True, after at most so many tries."""
    tries, before = _Tries(fails, most), None
    while tries.left and plan != before:
        before, plan = plan, _shrink_once(plan, tries)
    return plan


def _shrink_once(plan: Plan, tries: _Tries) -> Plan:
    faults = _reduce(plan.faults, lambda kept: tries.fails(_with(plan, faults=tuple(kept))))
    fewer = _with(plan, faults=tuple(faults))
    steps = _reduce(plan.steps, lambda kept: tries.fails(_with(fewer, steps=tuple(kept))))
    shorter = _with(fewer, steps=tuple(steps))
    calm = _with(shorter, stalls=0.0)
    return calm if shorter.stalls and tries.fails(calm) else shorter


class _Tries:
    def __init__(self, fails: Callable[[Plan], bool], most: int) -> None:
        self._fails = fails
        self.left = most

    def fails(self, plan: Plan) -> bool:
        if not self.left:
            return False
        self.left -= 1
        return self._fails(plan)


def _with(plan: Plan, **changes: object) -> Plan:
    return msgspec.structs.replace(plan, **changes)


def _reduce(items: Sequence[Item], fails: Callable[[list[Item]], bool]) -> list[Item]:
    """Return a part of the items that still fails, by delta debugging (Zeller and Hildebrandt, 2002)."""
    kept, size = list(items), len(items)
    while size:
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if fails(rest):
                kept = rest
            else:
                start += size
        size //= 2
    return kept
