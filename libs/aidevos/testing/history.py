"""Histories: what clients asked of objects, when, and what came of it.

A history is a list of operations in any order. `Recorder` records one while clients run, on one clock for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from aidevos.contracts.errors import Failure

# Failures that leave open whether an earlier attempt of the request was applied, besides the transient ones.
_UNDECIDED = frozenset({"deadline-past", "internal", "stale"})


class Value(msgspec.Struct, frozen=True, tag="value"):
    """An answer."""

    result: Any = None


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """An error that says for certain that the operation had no effect."""

    code: str


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """No answer, or one that leaves the outcome open: the operation may be applied, now or at any time later."""

    code: str = ""


Outcome = Value | Refusal | Unknown
NOT_ANSWERED: Outcome = Unknown()


class Operation(msgspec.Struct, frozen=True):
    """One request of a client to an object, such as `counter:clicks`.

    `called` and `returned` are seconds on any one clock. An operation with an unknown outcome never returns, whatever
    `returned` says.
    """

    client: str
    object: str
    method: str
    arguments: dict[str, Any]
    outcome: Outcome
    called: float
    returned: float

    @property
    def ended(self) -> float:
        """The time by which the operation had its effect: infinity if its outcome is unknown."""
        return inf if isinstance(self.outcome, Unknown) else self.returned

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return (
            f"{self.called:.4f}–{self.returned:.4f} {self.client}: {self.method}({arguments}) → {_show(self.outcome)}"
        )


class Recorder:
    """Records the operations of any number of clients; `now` is the clock that they share, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.operations: list[Operation] = []
        self.now = now

    async def record(
        self, client: str, object: str, method: str, arguments: Mapping[str, Any], answer: Awaitable[Any]
    ) -> Outcome:
        """Await the answer to a request, record the operation, and return its outcome.

        A `Failure` is an outcome. Any other exception, also a cancellation, is recorded as unknown and raised.
        """
        called, outcome = self.now(), NOT_ANSWERED
        try:
            outcome = Value(await answer)
        except Failure as failure:
            outcome = outcome_of(failure)
        finally:
            operation = Operation(client, object, method, dict(arguments), outcome, called, self.now())
            self.operations.append(operation)
        return outcome


def outcome_of(failure: Failure) -> Outcome:
    """Return the outcome of an operation that failed.

    A failure that invites a repeat leaves the outcome unknown, because an earlier attempt may still be applied.
    """
    undecided = failure.is_transient or failure.code in _UNDECIDED
    return Unknown(failure.code) if undecided else Refusal(failure.code)


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    """Write a history to a file, one operation as JSON per line, in the order of their calls."""
    lines = map(msgspec.json.encode, sorted(operations, key=lambda each: each.called))
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def read_history(path: Path) -> list[Operation]:
    """Return the history in a file that `write_history` has written."""
    return [msgspec.json.decode(line, type=Operation) for line in path.read_bytes().splitlines()]


def _show(outcome: Outcome) -> str:
    match outcome:
        case Value(result):
            return repr(result)
        case Refusal(code):
            return f"refused: {code}"
        case Unknown(code):
            return f"unknown: {code}" if code else "unknown"
