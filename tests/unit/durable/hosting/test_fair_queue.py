"""Callers take turns, and so do the objects of one caller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aidevos.durable.hosting.fair_queue import Arrival, FairQueue


def arrival(caller: str, target: str, number: int = 0) -> Arrival:
    made = Arrival(b"", b"%d" % number, b"", b"", 0.0)
    made.caller, made.target = caller.encode(), target.encode()
    return made


def test_a_caller_with_one_request_waits_for_one_turn_of_a_caller_with_many() -> None:
    queue = FairQueue()
    for number in range(1000):
        queue.put(arrival("many", f"o{number}"))
    single = arrival("one", "o0")
    queue.put(single)

    turns = [queue.take(8) for _ in range(2)]

    assert [single] in turns


def test_an_object_with_one_request_waits_for_few_turns_of_the_objects_with_many() -> None:
    queue = FairQueue()
    for number in range(1000):
        queue.put(arrival("caller", f"o{number % 10}"))
    for _ in range(20):
        queue.take(8)
    single = arrival("caller", "other")
    queue.put(single)

    turns = [queue.take(8) for _ in range(2)]

    assert [single] in turns


def test_objects_that_already_wait_are_not_starved_by_new_ones() -> None:
    queue = FairQueue()
    for _ in range(20):
        queue.put(arrival("caller", "old"))
    queue.take(8)

    taken = []
    for number in range(4):
        queue.put(arrival("caller", f"new{number}"))
        taken += queue.take(8)

    assert sum(item.target == b"old" for item in taken) == 12


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=40), st.integers(1, 8))
def test_every_request_is_taken_once_and_those_of_one_caller_to_one_object_in_order(
    flows: list[tuple[str, str]], count: int
) -> None:
    queue = FairQueue()
    for number, (caller, target) in enumerate(flows):
        queue.put(arrival(caller, target, number))
    assert sorted(int(item.reply) for item in queue) == list(range(len(flows)))

    taken: list[Arrival] = []
    while queue.length:
        taken += queue.take(count)

    for flow in set(flows):
        numbers = [int(item.reply) for item in taken if (item.caller, item.target) == tuple(map(str.encode, flow))]
        assert numbers == [number for number, each in enumerate(flows) if each == flow]
    assert len(taken) == len(flows)
    assert queue.callers == 0
