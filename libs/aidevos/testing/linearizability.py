"""The checker of histories: is there one order of all operations that explains every answer?

A history of an object is linearizable if each operation can be given one moment between its call and its return, so
that the operations, run one after another in the order of these moments, give the answers that the clients got
(Herlihy and Wing, 1990). An operation with an unknown outcome may have its moment at any time after its call, or never.

Each object is checked alone, which is enough, because linearizability is local. The search is that of Wing and Gong
(1993) with the improvements of Lowe (2017): an operation is placed just before a return that needs it, and a
configuration, which is a state with the set of operations placed so far, is never tried twice. With few operations at
a time, and answers that show the state, the search takes time in proportion to the history. In general the problem is
NP-complete: many overlapping operations whose answers show nothing can take very long.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from aidevos.testing.history import Operation, Outcome, Refusal, Unknown, Value

State = TypeVar("State", bound=Hashable)
# Returned operations before the failing one in a report.
_SHOWN = 5


@dataclass(frozen=True)
class Model(Generic[State]):
    """The behaviour of an object whose operations run one after another.

    `step(state, method, arguments)` returns the next state and the result. Both the states and `initial` are hashable
    values. A result is compared with the answer by `==`. Where the object refuses, `step` returns the same state and
    `Refusal(code)`, and `refusals` holds the code: such a refusal must be one that the state explains. Any other
    refusal, such as `forbidden`, isn't checked.

    `queries` are methods that never change the state. Naming them makes the search faster.
    """

    initial: State
    step: Callable[[State, str, Mapping[str, Any]], tuple[State, Any]]
    queries: frozenset[str] = frozenset()
    refusals: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Violation:
    """A proof that an object's history isn't linearizable.

    `operation` is the first, by time of return, whose answer no order explains. `overlapping` were
    called before it returned, and returned after its call or never. `before` are the last that returned before its
    call. `states` are those that the object can have been in then, before some of the overlapping ones.
    """

    object: str
    operation: Operation
    overlapping: Sequence[Operation]
    before: Sequence[Operation]
    states: Sequence[Any]

    def __str__(self) -> str:
        lines = [f"{self.object} has no order of operations that explains", f"    {self.operation}"]
        states = ", ".join(map(repr, self.states))
        lines.append(f"  What others saw leaves the object in one of these states: {states}")
        for title, operations in (("Overlapping", self.overlapping), ("Before it", self.before)):
            lines += [f"  {title}:", *(f"    {each}" for each in operations)] if operations else []
        return "\n".join(lines)


def check_linearizable(history: Iterable[Operation], model: Model[Any]) -> list[Violation]:
    """Return a violation for each object whose history is not linearizable, or an empty list.

    Every object of the history starts in the model's initial state. Operations that end at the moment at which another
    one begins count as overlapping.
    """
    objects: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        objects[operation.object].append(operation)
    found = (_Search(operations, model).find_violation() for _, operations in sorted(objects.items()))
    return [violation for violation in found if violation is not None]


# A state, and the operations that are placed but have not returned yet, or never will.
_Configuration = tuple[Any, frozenset[int]]
_Configurations = Iterator[_Configuration]


class _Return(NamedTuple):
    """The return of an operation.

    `pending` are those that were called by then and have not returned before, itself included. The first `unknown`
    operations of unknown outcome were called by then.
    """

    operation: int
    pending: tuple[int, ...]
    unknown: int


class _Search:
    """The search for an order of the operations of one object."""

    def __init__(self, operations: Iterable[Operation], model: Model[Any]) -> None:
        self._model = model
        checked = [each for each in operations if self._is_checked(each)]
        self._operations = sorted(checked, key=lambda each: each.called)
        self._unknown = [n for n, each in enumerate(self._operations) if isinstance(each.outcome, Unknown)]
        # Operations of unknown outcome that do the same are interchangeable: the earliest is placed first.
        self._kinds = {n: _kind(self._operations[n]) for n in self._unknown}
        self._returns = list(self._find_returns())

    def find_violation(self) -> Violation | None:
        """Walk depth first from return to return, until the history ends or nothing is left to try."""
        start: _Configuration = (self._model.initial, frozenset())
        tried: set[tuple[int, _Configuration]] = set()
        path: list[_Configurations] = [iter([start])]
        furthest: dict[Any, None] = {}
        depth = -1
        while path:
            configuration = next(path[-1], None)
            passed = len(path) - 1
            if configuration is None:
                path.pop()
            elif passed == len(self._returns):
                return None
            elif (passed, configuration) not in tried:
                tried.add((passed, configuration))
                if passed > depth:
                    depth, furthest = passed, {}
                if passed == depth:
                    furthest[configuration[0]] = None
                path.append(self._place(self._returns[passed], configuration))
        return self._report(self._returns[depth], list(furthest))

    def _is_checked(self, operation: Operation) -> bool:
        match operation.outcome:
            case Refusal(code):
                return code in self._model.refusals
            case Unknown():
                return operation.method not in self._model.queries
        return True

    def _find_returns(self) -> Iterator[_Return]:
        """Return the returns in their order, each with what is pending."""
        operations = self._operations
        known = [n for n, each in enumerate(operations) if not isinstance(each.outcome, Unknown)]
        calls, unknown = deque(known), 0
        pending: dict[int, None] = {}
        for number in sorted(known, key=lambda n: operations[n].returned):
            returned = operations[number].returned
            while calls and operations[calls[0]].called <= returned:
                pending[calls.popleft()] = None
            while unknown < len(self._unknown) and operations[self._unknown[unknown]].called <= returned:
                unknown += 1
            yield _Return(number, tuple(pending), unknown)
            del pending[number]

    def _place(self, event: _Return, configuration: _Configuration) -> _Configurations:
        """Return the configurations after a return: its operation is placed, and before it as few others as will do."""
        start = self._absorb(event, configuration)
        if event.operation in start[1]:
            yield _without(start, event.operation)
            return
        met, frontier = {start}, deque([start])
        while frontier:
            configuration = frontier.popleft()
            for number in self._choices(event, configuration[1]):
                extended = self._extend(event, configuration, number)
                if extended is None or extended in met:
                    continue
                met.add(extended)
                if event.operation in extended[1]:
                    yield _without(extended, event.operation)
                else:
                    frontier.append(extended)

    def _choices(self, event: _Return, placed: frozenset[int]) -> Iterator[int]:
        """Return the operations that can be placed next: the one that returns, others that pend, one of each kind."""
        yield event.operation
        for number in event.pending:
            if number not in placed and number != event.operation:
                yield number
        kinds = set()
        for number in self._unknown[: event.unknown]:
            if number not in placed and self._kinds[number] not in kinds:
                kinds.add(self._kinds[number])
                yield number

    def _extend(self, event: _Return, configuration: _Configuration, number: int) -> _Configuration | None:
        """Return the configuration with one more operation placed, or None if its answer contradicts the state."""
        state, placed = configuration
        operation = self._operations[number]
        after, result = self._model.step(state, operation.method, operation.arguments)
        unknown = isinstance(operation.outcome, Unknown)
        fits = after != state if unknown else _is_answer(operation.outcome, result)
        return self._absorb(event, (after, placed | {number})) if fits else None

    def _absorb(self, event: _Return, configuration: _Configuration) -> _Configuration:
        """Place all pending queries whose answers show the present state. They stand in no other operation's way."""
        state, placed = configuration
        for number in event.pending:
            operation = self._operations[number]
            if operation.method in self._model.queries and number not in placed:
                _, result = self._model.step(state, operation.method, operation.arguments)
                if _is_answer(operation.outcome, result):
                    placed |= {number}
        return state, placed

    def _report(self, event: _Return, states: list[Any]) -> Violation:
        failed = self._operations[event.operation]
        overlapping = [each for each in self._operations if each is not failed and _overlap(each, failed)]
        returned = [each for each in self._operations if each.ended < failed.called]
        before = sorted(returned, key=lambda each: each.returned)[-_SHOWN:]
        return Violation(failed.object, failed, overlapping, before, states)


def _is_answer(outcome: Outcome, result: Any) -> bool:
    """Return True if the model's result is what the client got."""
    return outcome == (result if isinstance(result, Refusal) else Value(result))


def _without(configuration: _Configuration, operation: int) -> _Configuration:
    state, placed = configuration
    return state, placed - {operation}


def _kind(operation: Operation) -> str:
    return f"{operation.method} {sorted(operation.arguments.items())!r}"


def _overlap(one: Operation, other: Operation) -> bool:
    return one.called <= other.ended and other.called <= one.ended
