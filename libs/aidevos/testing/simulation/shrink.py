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
    tries = _Tries(fails, most)
    while tries.left:
        before = plan
        faults = _reduce(plan.faults, lambda faults: tries.fails(_with(before, faults=tuple(faults))))
        plan = _with(plan, faults=tuple(faults))
        kept = plan
        steps = _reduce(plan.steps, lambda steps: tries.fails(_with(kept, steps=tuple(steps))))
        plan = _with(plan, steps=tuple(steps))
        if plan.stalls and tries.fails(_with(plan, stalls=0.0)):
            plan = _with(plan, stalls=0.0)
        if plan == before:
            break
    return plan


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
