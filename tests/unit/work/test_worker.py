"""A worker takes no event while all its slots are full, and takes events again when one is free."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from aidevos import Failure, TaskContext, task
from aidevos.contracts.tasks import Assignment
from aidevos.durable.bus.port import Delivery
from aidevos.durable.client.reference import refer
from aidevos.work.handlers import handler_of
from aidevos.work.worker import Worker
from tests.support.kits import failure, until

GATE = asyncio.Event()


@task("slow")
async def slow(context: TaskContext, payload: dict[str, Any]) -> None:
    await GATE.wait()


class Fleet:
    """A fake of the bus, its subscription and the tasks: those that are due, and those that were started."""

    def __init__(self, *due: str) -> None:
        self.due = list(due)
        self.started: list[str] = []
        self.taken_by_others: set[str] = set()
        self.paused = False

    async def subscribe(self, pattern: str, group: str, handler: Any, bury: Any, **options: Any) -> Fleet:
        assert (pattern, group, options["at_once"]) == ("event.task.*.queued", "workers", 1)
        self.handler = handler
        return self

    async def pause(self) -> None:
        self.paused = True

    async def resume(self) -> None:
        self.paused = False

    async def close(self) -> None:
        self.paused = True

    def object(self, type: str, id: str, **options: Any) -> Any:
        return refer(type, id, self._call)

    async def _call(self, type: str, id: str, method: str, payload: bytes) -> bytes:
        return msgspec.json.encode(await self.call(type, id, method, **msgspec.json.decode(payload)))

    async def query(self, type: str, name: str, /, **args: Any) -> list[str]:
        assert args["kinds"] == ["slow"]
        return self.due[: args["limit"]]

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        if method != "start":
            return True
        self.due.remove(id)
        if id in self.taken_by_others:
            raise Failure("conflict", "the task is running")
        self.started.append(id)
        given = Assignment(
            id=id,
            project="p",
            kind="slow",
            payload={},
            run=f"r{id}",
            attempt=1,
            max_attempts=1,
            timeout=5.0,
            lease=9.0,
            created_by="u",
        )
        return msgspec.to_builtins(given)

    async def request(self, *args: Any, **options: Any) -> bytes:
        return b"null"


def event(kind: str) -> Delivery:
    return Delivery("event.task.t.queued", msgspec.json.encode({"data": {"kind": kind}}), "1")


@pytest.fixture(autouse=True)
def _closed() -> None:
    GATE.clear()


async def test_it_takes_no_event_while_it_is_full() -> None:
    fleet = Fleet("a", "b", "c")
    fleet.taken_by_others = {"a"}
    handlers = {"slow": handler_of(slow)}
    worker = Worker(handlers, fleet, fleet, name="w", group="workers", slots=1, poll=60.0)  # type: ignore[arg-type]
    running = asyncio.create_task(worker.run())
    await until(lambda: fleet.paused)
    assert fleet.started == ["b"]
    assert (await failure(fleet.handler(event("slow")))).code == "overloaded"
    await fleet.handler(event("other"))
    GATE.set()
    await until(lambda: fleet.started == ["b", "c"] and not fleet.paused)
    await fleet.handler(event("slow"))
    fleet.due.append("d")
    await fleet.handler(event("slow"))
    assert fleet.started == ["b", "c", "d"]
    await worker.drain(1.0)
    running.cancel()
