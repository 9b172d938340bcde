"""The checker accepts the histories of objects that behave, and finds what is wrong with the others."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.testing import Model, Operation, Outcome, Refusal, Unknown, Value, check_linearizable


def step_register(state: int, method: str, arguments: Mapping[str, Any]) -> tuple[int, Any]:
    match method:
        case "read":
            return state, state
        case "write":
            return arguments["to"], None
        case "swap" if arguments["old"] == state:
            return arguments["new"], True
        case "swap":
            return state, False
        case "take" if state:
            return state - 1, state
        case "take":
            return state, Refusal("empty")
    raise AssertionError(method)


def step_counter(state: int, method: str, arguments: Mapping[str, Any]) -> tuple[int, Any]:
    return (state, state) if method == "value" else (state + 1, state + 1)


REGISTER = Model(0, step_register, refusals=frozenset({"empty"}))
KNOWN_QUERIES = Model(0, step_register, queries=frozenset({"read"}), refusals=frozenset({"empty"}))
COUNTER = Model(0, step_counter, queries=frozenset({"value"}))


def operation(
    client: str,
    called: float,
    returned: float,
    method: str,
    answer: Any = None,
    *,
    object: str = "r:1",
    **arguments: Any,
) -> Operation:
    outcome = answer if isinstance(answer, Outcome) else Value(answer)
    return Operation(client, object, method, arguments, outcome, called, returned)


def is_linearizable(*operations: Operation) -> bool:
    found = [not check_linearizable(operations, model) for model in (REGISTER, KNOWN_QUERIES)]
    assert found[0] == found[1], "to name the queries changes the verdict"
    return found[0]


# The registers of Porcupine's tests: a slow write, and reads that see it early and late.
def test_a_read_may_see_a_write_that_has_not_returned() -> None:
    assert is_linearizable(
        operation("a", 0, 100, "write", to=100),
        operation("b", 25, 75, "read", 100),
        operation("c", 30, 60, "read", 0),
    )


def test_a_read_may_not_see_less_than_an_earlier_one() -> None:
    assert not is_linearizable(
        operation("a", 0, 100, "write", to=200),
        operation("b", 10, 30, "read", 200),
        operation("c", 40, 90, "read", 0),
    )


# The registers with compare-and-set of Knossos' tests.
def test_a_swap_needs_the_value_that_it_names() -> None:
    assert is_linearizable(operation("a", 0, 1, "write", to=1), operation("b", 2, 3, "swap", True, old=1, new=2))
    assert not is_linearizable(operation("a", 0, 1, "write", to=1), operation("b", 2, 3, "swap", True, old=3, new=2))
    assert not is_linearizable(operation("a", 0, 1, "write", to=1), operation("b", 2, 3, "swap", False, old=1, new=2))


def test_two_clients_cannot_both_swap_the_same_value() -> None:
    assert not is_linearizable(
        operation("a", 0, 5, "swap", True, old=0, new=1), operation("b", 1, 4, "swap", True, old=0, new=2)
    )


def test_a_write_without_an_answer_may_happen_never_now_or_much_later() -> None:
    crashed = operation("a", 0, 1, "write", Unknown(), to=3)

    assert is_linearizable(crashed, operation("b", 2, 3, "read", 0), operation("b", 4, 5, "read", 0))
    assert is_linearizable(crashed, operation("b", 2, 3, "read", 0), operation("b", 4, 5, "read", 3))
    assert not is_linearizable(
        crashed, operation("b", 2, 3, "read", 3), operation("b", 4, 5, "write", to=1), operation("b", 6, 7, "read", 3)
    )


def test_a_write_without_an_answer_cannot_happen_before_its_call() -> None:
    assert not is_linearizable(operation("b", 0, 1, "read", 3), operation("a", 2, 3, "write", Unknown(), to=3))


def test_two_writes_without_answers_may_each_happen_once() -> None:
    crashed = [operation(client, 0, 1, "write", Unknown(), to=3) for client in "ab"]
    between = [operation("c", 2, 3, "read", 3), operation("c", 4, 5, "write", to=1), operation("c", 6, 7, "read", 3)]

    assert is_linearizable(*crashed, *between)
    assert not is_linearizable(
        *crashed, *between, operation("c", 8, 9, "write", to=1), operation("c", 10, 11, "read", 3)
    )


def test_a_refusal_that_the_model_gives_needs_a_state_that_explains_it() -> None:
    refused = operation("a", 2, 3, "take", Refusal("empty"))

    assert is_linearizable(refused)
    assert is_linearizable(operation("b", 0, 2.5, "write", to=1), refused)
    assert not is_linearizable(operation("b", 0, 1, "write", to=1), refused)


def test_any_other_refusal_has_no_effect() -> None:
    refused = operation("a", 2, 3, "write", Refusal("forbidden"), to=5)

    assert is_linearizable(refused, operation("b", 4, 5, "read", 0))
    assert not is_linearizable(refused, operation("b", 4, 5, "read", 5))


def test_operations_that_meet_in_one_moment_overlap() -> None:
    assert is_linearizable(operation("a", 0, 1, "write", to=1), operation("b", 1, 2, "read", 0))


def test_objects_are_checked_one_by_one() -> None:
    good = [operation("a", 0, 1, "write", object="r:good", to=1), operation("b", 2, 3, "read", 1, object="r:good")]
    bad = [operation("a", 0, 1, "write", object="r:bad", to=1), operation("b", 2, 3, "read", 0, object="r:bad")]

    (violation,) = check_linearizable([*good, *bad], REGISTER)

    assert violation.object == "r:bad"
    assert violation.operation == bad[1]


def test_a_violation_shows_the_first_answer_that_nothing_explains_and_what_others_saw() -> None:
    counted = [operation("a", n, n + 0.5, "add", n + 1, object="counter:x") for n in range(10)]
    wrong = operation("b", 9.7, 11, "value", 9, object="counter:x")
    beside = operation("c", 10.5, 12, "add", 11, object="counter:x")
    later = [operation("a", n, n + 0.5, "add", n + 2, object="counter:x") for n in range(13, 20)]

    (violation,) = check_linearizable([*counted, wrong, beside, *later], COUNTER)

    assert violation.operation == wrong
    assert violation.overlapping == [beside]
    assert violation.before == counted[-5:]
    assert violation.states == [10]
    assert "9.7000–11.0000 b: value() → 9" in str(violation)


def test_a_history_of_ten_thousand_operations_of_eight_clients_takes_about_a_second() -> None:
    history = run_clients(random.Random(1), clients=8, operations=10_000)
    begun = time.process_time()

    assert not check_linearizable(history, COUNTER)
    assert time.process_time() - begun < 3.0


def test_a_wrong_answer_among_ten_thousand_is_found_as_soon() -> None:
    history = run_clients(random.Random(2), clients=8, operations=10_000)
    number = next(n for n in range(7000, 10_000) if history[n].method == "value")
    wrong = history[number] = msgspec.structs.replace(history[number], outcome=Value(1))
    begun = time.process_time()

    (violation,) = check_linearizable(history, COUNTER)

    assert violation.operation == wrong
    assert time.process_time() - begun < 3.0


def test_many_unknown_outcomes_do_not_make_the_search_explode() -> None:
    unknown = [operation("x", n, n, "add", Unknown()) for n in range(60)]
    seen = [operation("a", 100 + 2 * n, 101 + 2 * n, "value", n) for n in range(40)]

    assert not check_linearizable([*unknown, *seen], COUNTER)
    assert check_linearizable([*unknown, *seen, operation("a", 1000, 1001, "value", 61)], COUNTER)


def run_clients(random: random.Random, *, clients: int, operations: int) -> list[Operation]:
    """Return the history of a counter that answers at a random moment of each operation, in the order of calls."""
    count, free = 0, [0.0] * clients
    history = []
    spans = []
    for _ in range(operations):
        client = min(range(clients), key=free.__getitem__)
        called = free[client] + random.expovariate(100)
        moment = called + random.expovariate(10)
        free[client] = moment + random.expovariate(10)
        spans.append((moment, client, called, free[client], random.choice(["add", "value"])))
    for _, client, called, returned, method in sorted(spans):
        count += method == "add"
        history.append(operation(f"c{client}", called, returned, method, count))
    return history


class Span(msgspec.Struct, frozen=True):
    """A request of a client that takes effect at `moment`; one that isn't `answered` ends unknown."""

    called: int
    moment: int
    returned: int
    method: str
    arguments: dict[str, int]
    answered: bool


small = st.integers(0, 2)
requests: st.SearchStrategy[tuple[str, dict[str, int]]] = st.one_of(
    st.just(("read", {})),
    st.just(("take", {})),
    st.builds(lambda to: ("write", {"to": to}), small),
    st.builds(lambda old, new: ("swap", {"old": old, "new": new}), small, small),
)


def make_span(times: list[int], request: tuple[str, dict[str, int]], answered: bool) -> Span:
    called, moment, returned = sorted(times)
    return Span(called, moment, returned, *request, answered)


moments = st.lists(st.integers(0, 12), min_size=3, max_size=3)
spans = st.builds(make_span, moments, requests, st.booleans() | st.just(True))


@st.composite
def real_histories(draw: st.DrawFn) -> list[Operation]:
    """Draw the history of a real register."""
    state, history = 0, []
    for span in sorted(draw(st.lists(spans, max_size=6)), key=lambda each: each.moment):
        state, result = step_register(state, span.method, span.arguments)
        outcome: Outcome = Unknown()
        if span.answered:
            outcome = result if isinstance(result, Refusal) else Value(result)
        history.append(Operation("c", "r:1", span.method, span.arguments, outcome, span.called, span.returned))
    return draw(st.permutations(history))


@given(real_histories())
def test_the_history_of_a_real_register_is_accepted(history: list[Operation]) -> None:
    assert is_linearizable(*history)


@given(real_histories(), st.data())
def test_the_verdict_on_a_changed_history_is_that_of_a_search_through_all_orders(
    history: list[Operation], data: st.DataObject
) -> None:
    answered = [n for n, each in enumerate(history) if isinstance(each.outcome, Value)]
    if answered:
        number = data.draw(st.sampled_from(answered))
        answer = Value(data.draw(st.sampled_from([0, 1, 2, True, False, None])))
        history[number] = msgspec.structs.replace(history[number], outcome=answer)

    assert is_linearizable(*history) == any(explains(order) for order in possible_orders(history))


def possible_orders(history: Sequence[Operation]) -> Iterable[Sequence[Operation]]:
    """Return every order of the operations, with and without each that may not have happened."""
    unknown = [each for each in history if isinstance(each.outcome, Unknown)]
    known = [each for each in history if not isinstance(each.outcome, Unknown)]
    for count in range(len(unknown) + 1):
        for applied in itertools.combinations(unknown, count):
            yield from itertools.permutations([*known, *applied])


def explains(order: Sequence[Operation]) -> bool:
    """Return True if this order keeps that of time, and gives every answer."""
    if any(later.ended < earlier.called for earlier, later in itertools.combinations(order, 2)):
        return False
    state = 0
    for each in order:
        state, result = step_register(state, each.method, each.arguments)
        given = result if isinstance(result, Refusal) else Value(result)
        if not isinstance(each.outcome, Unknown) and each.outcome != given:
            return False
    return True


@pytest.mark.parametrize("outcome", [Value({"a": [1]}), Refusal("exists"), Unknown("unavailable")])
def test_an_operation_shows_its_outcome(outcome: Outcome) -> None:
    shown = str(operation("a", 1, 2, "put", outcome, key="k"))

    assert shown.startswith("1.0000–2.0000 a: put(key='k') → ")
