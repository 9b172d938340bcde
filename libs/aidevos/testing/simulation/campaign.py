"""Many runs: all seeds of a range, on all cores, with a report of what has failed."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

from aidevos.testing.simulation.plan import OPERATIONS, Plan, make_plan
from aidevos.testing.simulation.shrink import shrink
from aidevos.testing.simulation.world import Result, Scenario, run

# Seeds that one process takes at a time.
CHUNK = 10


class Report(NamedTuple):
    """The sums over all runs, and the results of those that failed, with their shortest plans."""

    seeds: int
    operations: int
    faults: Counter[str]
    failed: list[Result]

    def __str__(self) -> str:
        violations = sum(len(each.violations) for each in self.failed)
        count = self.faults.total()
        return f"{self.seeds} seeds, {self.operations} operations, {count} faults, {violations} violations"


class _Run(NamedTuple):
    operations: int
    faults: Counter[str]
    failed: Result | None


def simulate_seeds(
    scenario: Scenario,
    seeds: Iterable[int],
    *,
    operations: int = OPERATIONS,
    only: Sequence[str] = (),
    processes: int = 1,
    shortens: bool = True,
    most_failures: int = 1,
) -> Report:
    """Run the plans of these seeds, and return a report. It ends early after so many failed runs.

    With `only`, faults are of these kinds. With several `processes`, the scenario must be one that can be pickled.
    """
    runs = _run_all(partial(_run_seed, scenario, operations, only), seeds, processes)
    count, total, faults, failed = 0, 0, Counter[str](), []
    for each in runs:
        count, total = count + 1, total + each.operations
        faults += each.faults
        if each.failed is not None:
            failed.append(shorten(each.failed, scenario) if shortens else each.failed)
            if len(failed) == most_failures:
                break
    return Report(count, total, faults, failed)


def shorten(failed: Result, scenario: Scenario) -> Result:
    """Return the result of a shorter plan that fails too."""

    def fails(plan: Plan) -> bool:
        return bool(run(plan, scenario).violations)

    return run(shrink(failed.plan, fails), scenario)


def describe(failed: Result) -> str:
    """Return what is wrong in a failed run, its plan and its history."""
    history = sorted(failed.history, key=lambda operation: operation.called)
    lines = [*failed.violations, "", "The plan:", str(failed.plan), "", "The history:"]
    return "\n".join([*lines, *(f"  {operation.object} {operation}" for operation in history)])


def _run_seed(scenario: Scenario, operations: int, only: Sequence[str], seed: int) -> _Run:
    result = run(make_plan(seed, operations, only=only), scenario)
    struck = Counter(fault.kind for fault in result.struck)
    return _Run(len(result.history), struck, result if result.violations else None)


def _run_all(run_seed: Callable[[int], _Run], seeds: Iterable[int], processes: int) -> Iterator[_Run]:
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(processes, get_context("fork"), _freeze) as pool:
        try:
            yield from pool.map(run_seed, seeds, chunksize=CHUNK)
        finally:
            pool.shutdown(cancel_futures=True)


def _freeze() -> None:
    """Let collections skip what every run shares."""
    gc.collect()
    gc.freeze()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
