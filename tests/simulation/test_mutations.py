"""Mutations of the product are found by the simulation.

The seeds are those at which a search with these workloads ended, which began at seed 0. The tests search some seeds
more, so that a change of the product that shifts what a seed does breaks no test. Without the mutation, the seed that
finds it violates nothing.
"""

from __future__ import annotations

import pytest

from aidevos.testing.simulation.campaign import simulate_seeds
from tests.support.mutations import MUTATIONS
from tests.support.simulated import PlainCounters, Proofs
from tests.support.workloads import Counters, Tells, Workload

OPERATIONS, MORE = 60, 30


@pytest.mark.parametrize(
    ("name", "workload", "seed"),
    [
        ("moved_after_accepting", PlainCounters, 0),
        ("records_not_stored", Counters, 2),
        ("gate_off", Counters, 5),
        ("scan_off", Tells, 0),
    ],
)
def test_a_mutation_is_found(name: str, workload: type[Workload], seed: int) -> None:
    with MUTATIONS[name]():
        report = simulate_seeds(Proofs(workload), range(seed, seed + MORE), operations=OPERATIONS, shortens=False)
    (failed,) = report.failed
    assert simulate_seeds(Proofs(workload), [failed.plan.seed], operations=OPERATIONS).failed == []
