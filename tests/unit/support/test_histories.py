"""The checker of histories finds every kind of fault."""

from __future__ import annotations

import pytest

from tests.support.histories import Operation, find_faults

FIRST = Operation(1.0, 2.0, seen=0, written=7)
SECOND = Operation(3.0, 4.0, seen=7, written=8)


def test_overlapping_operations_may_take_effect_in_any_order() -> None:
    late = Operation(1.5, 9.0, seen=0)

    assert not find_faults([0, 7, 8], [FIRST, SECOND, late], [7, 8])


def test_a_write_without_an_answer_may_have_happened() -> None:
    assert not find_faults([0, 7, 8], [SECOND], [7, 8])


@pytest.mark.parametrize(
    ("trail", "operations", "fault"),
    [
        ([0, 8], [FIRST], "left no trace"),
        ([0, 8, 7], [FIRST], "left no trace"),
        ([0, 7, 8], [Operation(3.0, 4.0, seen=9)], "left no trace"),
        ([0, 7, 8, 7], [FIRST], "written twice"),
        ([0, 9], [], "written by nobody"),
        ([0, 7, 8], [FIRST, SECOND, Operation(5.0, 6.0, seen=7)], "began after"),
        ([0, 7, 8], [FIRST, Operation(2.5, 2.6, seen=0)], "began after"),
    ],
)
def test_faults_are_found(trail: list[int], operations: list[Operation], fault: str) -> None:
    (found,) = find_faults(trail, operations, [7, 8])

    assert fault in found
