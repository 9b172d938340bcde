"""Simulated runs of a fleet: hosts, clients, NATS and the store in one process."""

from __future__ import annotations

import pytest

from aidevos.testing.simulation.plan import make_plan
from aidevos.testing.simulation.subjects import Interest, overlap
from aidevos.testing.simulation.world import run
from tests.support.simulated import Proofs


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_everything_is_answered(seed: int) -> None:
    result = run(make_plan(seed, operations=60, faults=False), Proofs())
    assert result.violations == []
    assert len(result.history) >= 50


def test_a_seed_replays_exactly() -> None:
    first, second = (run(make_plan(5, operations=40), Proofs()) for _ in range(2))
    assert first.history == second.history
    assert (first.trace, first.seconds, first.struck) == (second.trace, second.seconds, second.struck)


def test_interest_follows_the_wildcards_of_nats() -> None:
    interest: Interest[str] = Interest()
    for pattern in ("a.b", "a.*", "a.>", ">", "*.b.c"):
        interest.add(pattern, pattern)
    assert sorted(interest.match("a.b")) == [">", "a.*", "a.>", "a.b"]
    assert sorted(interest.match("x.b.c")) == ["*.b.c", ">"]
    interest.remove("a.>", "a.>")
    assert sorted(interest.match("a.b.d")) == [">"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("a.*", "*.b", True), ("a.>", "a.b.c", True), ("a.b", "a.c", False), ("a.*", "a.b.c", False)],
)
def test_patterns_overlap_if_a_subject_matches_both(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is expected
