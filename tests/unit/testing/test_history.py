"""A recorder keeps every operation, with an outcome that is never surer than what the client knows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aidevos import Failure
from aidevos.testing import Operation, Outcome, Recorder, Refusal, Unknown, Value, read_history, write_history


async def answer(result: Any) -> Any:
    if isinstance(result, BaseException):
        raise result
    return result


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (3, Value(3)),
        (Failure("exists", "the name is taken"), Refusal("exists")),
        (Failure("insufficient-funds", "the balance is 0", status=409), Refusal("insufficient-funds")),
        (Failure("unavailable", "nobody answered"), Unknown("unavailable")),
        # An earlier attempt of the same request may have been taken.
        (Failure("overloaded", "too much waits"), Unknown("overloaded")),
        (Failure("stale", "it was settled"), Unknown("stale")),
        (Failure("internal", "a bug"), Unknown("internal")),
    ],
)
async def test_an_answer_is_recorded_as_what_it_proves(result: object, outcome: Outcome) -> None:
    ticks = iter([1.0, 2.0])
    recorder = Recorder(lambda: next(ticks))

    assert await recorder.record("a", "counter:x", "add", {"by": 1}, answer(result)) == outcome
    assert recorder.operations == [Operation("a", "counter:x", "add", {"by": 1}, outcome, 1.0, 2.0)]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), OSError("the client broke")])
async def test_a_call_that_breaks_off_is_recorded_as_unknown(error: BaseException) -> None:
    recorder = Recorder()

    with pytest.raises(type(error)):
        await recorder.record("a", "counter:x", "add", {}, answer(error))
    assert [each.outcome for each in recorder.operations] == [Unknown()]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = [
        Operation("b", "c:1", "add", {"by": 2}, Value({"n": [1]}), 1.0, 2.5),
        Operation("a", "c:2", "add", {}, Refusal("exists"), 0.5, 2.0),
        Operation("a", "c:2", "add", {}, Unknown("unavailable"), 0.25, 9.0),
    ]

    write_history(tmp_path / "history", history)

    assert read_history(tmp_path / "history") == history[::-1]
