"""Task handlers: their declaration, their arguments, and the effect of their end on the task."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import msgspec
import pytest

from aidevos import Failure, TaskContext, task
from aidevos.contracts.tasks import RESULT_LIMIT, Assignment
from aidevos.durable.client.reference import refer
from aidevos.process.serving import check
from aidevos.work import attempt as attempts
from aidevos.work.attempt import Attempt
from aidevos.work.handlers import handler_of, handlers_in
from aidevos.work.process import worker_service

GIVEN = Assignment(
    id="t1",
    project="p1",
    kind="report",
    payload={"title": "May"},
    run="r1",
    attempt=2,
    max_attempts=3,
    timeout=5.0,
    lease=0.3,
    created_by="ada",
)


class Report(msgspec.Struct):
    title: str


class Objects:
    """A fake task that records calls and decides if the attempt may go on."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.goes_on = True
        self.reachable = True

    def object(self, type: str, id: str, **options: Any) -> Any:
        assert (type, id) == ("task", "t1")
        return refer(type, id, self._call)

    async def _call(self, type: str, id: str, method: str, payload: bytes) -> bytes:
        if not self.reachable:
            raise Failure("unavailable", "nobody answers")
        self.told.append((method, msgspec.json.decode(payload)))
        return msgspec.json.encode(self.goes_on)

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        self.told.append((subject.rpartition(".")[2], msgspec.json.decode(payload)))
        return b"null"

    @property
    def reports(self) -> list[tuple[str, Any]]:
        return [(method, args) for method, args in self.told if method != "beat"]


def module(*functions: Any) -> ModuleType:
    made = ModuleType("m")
    for function in functions:
        setattr(made, function.__name__, function)
    return made


async def outcome(function: Any, objects: Objects | None = None, **changed: Any) -> Any:
    """Run an attempt, and return its report."""
    objects = objects or Objects()
    given = msgspec.structs.replace(GIVEN, **changed)
    await asyncio.wait_for(Attempt(given, handler_of(function), objects).run(), 10)  # type: ignore[arg-type]
    ((method, args),) = objects.reports
    assert (method, args.pop("run")) == ("finish", "r1")
    return args


@task("report")
async def report(context: TaskContext, payload: Report) -> dict[str, Any]:
    await context.progress(0.5)
    return {"title": payload.title, "attempt": context.attempt, "of": context.max_attempts, "by": context.created_by}


async def test_a_handler_gets_its_payload_and_its_result_is_reported() -> None:
    objects = Objects()
    args = await outcome(report, objects)
    assert args == {"result": {"title": "May", "attempt": 2, "of": 3, "by": "ada"}}
    assert objects.told[0] == ("beat", {"run": "r1", "progress": 0.5})


async def test_a_payload_of_another_shape_is_invalid_for_good() -> None:
    error = (await outcome(report, payload={"title": 5}))["error"]
    assert (error["code"], error["retryable"]) == ("invalid", False)
    assert "title" in error["detail"] or "str" in error["detail"]


@pytest.mark.parametrize(
    ("raised", "code", "retryable", "known"),
    [
        (RuntimeError("no"), "error", True, True),
        (Failure("not-found", "no"), "not-found", False, True),
        (Failure("forbidden", "no"), "forbidden", False, True),
        (Failure("unavailable", "no"), "unavailable", True, False),
        (Failure("deadline-exceeded", "no"), "deadline-exceeded", True, False),
        (Failure("internal", "no"), "internal", True, True),
        (Failure("out-of-paper", "no", status=409), "out-of-paper", False, True),
        (asyncio.CancelledError(), "error", True, True),
    ],
)
async def test_what_a_handler_raises_says_whether_to_try_again(
    raised: BaseException, code: str, retryable: bool, known: bool
) -> None:
    @task("fails")
    async def fails(context: TaskContext, payload: dict[str, Any]) -> None:
        raise raised

    error = (await outcome(fails))["error"]
    assert (error["code"], error["retryable"], error["known"]) == (code, retryable, known)


@pytest.mark.parametrize(("result", "code"), [(object(), "invalid"), ("x" * RESULT_LIMIT, "too-large")])
async def test_a_result_that_is_none_is_an_error(result: Any, code: str) -> None:
    @task("large")
    async def large(context: TaskContext, payload: dict[str, Any]) -> Any:
        return result

    assert (await outcome(large))["error"]["code"] == code


@task("waits")
async def waits(context: TaskContext, payload: dict[str, Any]) -> None:
    payload["seen"].append(context)
    await asyncio.Event().wait()


async def test_what_takes_too_long_is_stopped_and_reported() -> None:
    error = (await outcome(waits, payload={"seen": []}, timeout=0.1))["error"]
    assert (error["code"], error["known"]) == ("timeout", False)


@pytest.mark.parametrize("why", ["cancelled", "out of reach"])
async def test_a_handler_is_stopped_when_its_task_says_so_or_is_out_of_reach(why: str) -> None:
    objects, seen = Objects(), []
    objects.goes_on, objects.reachable = why != "cancelled", why != "out of reach"
    given = msgspec.structs.replace(GIVEN, payload={"seen": seen}, timeout=60.0)
    await asyncio.wait_for(Attempt(given, handler_of(waits), objects).run(), 5)  # type: ignore[arg-type]
    assert objects.reports == []
    assert seen[0].cancelled


async def test_a_handler_that_ends_in_no_time_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()

    @task("stuck")
    async def stuck(context: TaskContext, payload: dict[str, Any]) -> None:
        while not over.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    monkeypatch.setattr(attempts, "STOP_WITHIN", 0.1)
    error = (await outcome(stuck, timeout=0.1))["error"]
    over.set()
    assert error["code"] == "timeout"


async def test_an_attempt_that_is_given_back_is_stopped_and_says_so() -> None:
    objects, seen = Objects(), []
    given = msgspec.structs.replace(GIVEN, payload={"seen": seen})
    attempt = Attempt(given, handler_of(waits), objects)  # type: ignore[arg-type]
    running = asyncio.create_task(attempt.run())
    async with asyncio.timeout(5):
        while not seen:  # noqa: ASYNC110
            await asyncio.sleep(0)
    attempt.give_back()
    await running
    assert objects.reports == [("give_back", {"run": "r1"})]


def test_a_module_has_the_handlers_that_are_in_it() -> None:
    assert set(handlers_in([module(report, waits)])) == {"report", "waits"}


class Printer:
    def print(self, text: str) -> str:
        return f"printed {text}"


@task("printed")
async def printed(context: TaskContext, payload: Report, printer: Printer) -> str:
    return printer.print(payload.title)


async def test_a_handler_gets_the_resources_that_its_further_parameters_ask_for() -> None:
    objects: Any = Objects()
    handler = handler_of(printed)

    await Attempt(GIVEN, handler.bind({"printer": Printer()}), objects).run()

    assert [(need.name, need.type) for need in handler.needs] == [("printer", Printer)]
    assert objects.reports == [("finish", {"run": "r1", "result": "printed May"})]


def test_a_worker_whose_handler_needs_what_nothing_provides_is_refused() -> None:
    with pytest.raises(TypeError, match=r"printed needs a Printer"):
        check(worker_service(handlers_in([module(printed)]), group="g"))


def test_what_is_no_handler_is_refused() -> None:
    with pytest.raises(TypeError, match="not a valid kind of task: use up to four words of lower-case letters"):
        task("Not a kind")
    for kind in ("data.other", "webhook", "object"):

        @task(kind)
        async def reserved(context: TaskContext, payload: dict[str, Any]) -> None: ...

        with pytest.raises(TypeError, match="built-in"):
            handlers_in([module(reserved)])

    with pytest.raises(TypeError, match="async def"):

        @task("sync")
        def sync(context: TaskContext, payload: dict[str, Any]) -> None: ...  # type: ignore[type-var]

    with pytest.raises(TypeError, match="async def"):

        @task("bare")
        async def bare() -> None: ...

    @task("report")
    async def other(context: TaskContext, payload: dict[str, Any]) -> None: ...

    with pytest.raises(TypeError, match="two functions"):
        handlers_in([module(report, other)])
