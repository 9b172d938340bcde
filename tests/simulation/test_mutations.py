"""Mutations of the product are found by the simulation.

Each test begins with seeds at which a search with its workload and kinds of faults found the mutation. A change of the
product may shift what seeds do. Then the test searches all seeds below `MOST`, and is slow until its list has what
it finds. Without the mutation, the seed that finds it violates nothing.
"""

from __future__ import annotations

import pytest

from aidevos.testing.simulation.campaign import simulate_seeds
from tests.support.mutations import MUTATIONS
from tests.support.simulated import PlainCounters, Proofs, StoredTells
from tests.support.workloads import Counters, Events, Tells, Workload

OPERATIONS, MOST = 150, 300


@pytest.mark.parametrize(
    ("name", "workload", "faults", "seeds"),
    [
        ("moved_after_accepting", PlainCounters, ["pause"], [1, 0]),
        ("records_not_stored", Counters, ["kill", "cut"], [3, 6, 8]),
        ("late_tells_applied", Tells, ["straggle"], [1]),
        ("fenced_commit_repeated", Counters, ["straggle"], [0, 2, 3]),
        ("gate_off", Counters, ["kill", "freeze"], [30, 39, 19, 29]),
        ("scan_off", Tells, ["kill", "freeze"], [0, 3]),
        ("fence_off", Counters, ["store_errors"], [3, 0, 5]),
        ("validator_missing", Counters, ["store_errors"], [3, 0, 5]),
        ("claim_repeated", Counters, ["kill"], [0]),
        ("expected_unchecked", Counters, ["store_errors"], [3, 0, 1]),
        ("old_owner_answers", StoredTells, ["leave"], [1, 7, 12]),
        ("released_before_settled", Counters, ["leave"], [0]),
        ("lease_check_off", Counters, ["outlast"], [14, 19]),
        ("outbox_cleared_late", Events, ["pause", "store_errors"], [64]),
    ],
)
def test_a_mutation_is_found(name: str, workload: type[Workload], faults: list[str], seeds: list[int]) -> None:
    with MUTATIONS[name]():
        searched = dict.fromkeys([*seeds, *range(MOST)])
        report = simulate_seeds(Proofs(workload), searched, operations=OPERATIONS, only=faults, shortens=False)
    (failed,) = report.failed
    again = simulate_seeds(Proofs(workload), [failed.plan.seed], operations=OPERATIONS, only=faults)
    assert again.failed == []
