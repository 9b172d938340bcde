"""The shared workloads accept a product that keeps its promises, and notice each promise that is broken."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import pytest

from aidevos import Failure
from aidevos.contracts import subjects
from aidevos.testing import ObjectKit, Refusal, Unknown, Value
from tests.support.workloads import (
    CLASSES,
    KINDS,
    Alarms,
    Call,
    Client,
    Counters,
    Events,
    Names,
    Registers,
    Tells,
    Transfers,
    Workload,
    Workloads,
)

STEPS = 60
# A broken promise: the method that it breaks, and how the broken call does it with the right one.
Break = Callable[[Call, str, str, str, Mapping[str, Any]], Awaitable[Any]]


class World(NamedTuple):
    """A kit, and the workloads that run on it."""

    kit: ObjectKit
    workloads: Workloads

    async def run(self, call: Call, clients: int = 4) -> None:
        """Let clients work, and wait until everything has arrived that will."""
        await self.workloads.prepare(Client("0", self.call))
        working = [self._work(Client(f"c{number}", call)) for number in range(clients)]
        await asyncio.gather(*working)
        await self.kit.advance(10.0)
        await self.kit.settle()
        for event in self.kit.bus.events:
            _, _, id, name = event.subject.split(".", 3)
            if name == "added":
                self.workloads.see(id, msgspec.json.decode(event.payload)["data"]["value"])

    async def find(self) -> list[str]:
        client = Client("0", self.call)
        return await self.workloads.find_missing(client) + await self.workloads.find_violations(client)

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        return await self.kit.call(type, id, method, **args)

    async def _work(self, client: Client) -> None:
        for _ in range(STEPS):
            await self.workloads.step(client)


@asynccontextmanager
async def open_world(*kinds: type[Workload], seed: int = 1) -> AsyncIterator[World]:
    ticks = itertools.count()
    async with ObjectKit(*CLASSES) as kit:
        yield World(kit, Workloads(random.Random(seed), lambda: float(next(ticks)), 4, kinds or KINDS))


async def test_a_product_that_keeps_its_promises_has_no_violation() -> None:
    async with open_world() as world:
        await world.run(world.call)

        assert await world.find() == []
    history = world.workloads.history
    assert len(history) == 4 * STEPS
    assert {each.method for each in history} >= {"add", "swap", "claim", "announce", "transfer", "pass_on", "ring"}
    assert all(isinstance(each.outcome, Value | Refusal) for each in history)


async def test_a_call_that_failed_may_have_been_applied_or_not() -> None:
    chance = random.Random(3)

    async with open_world() as world:

        async def call(type: str, id: str, method: str, /, **arguments: Any) -> Any:
            fails = chance.choice(("before", "after", "never", "never"))
            result = None if fails == "before" else await world.kit.call(type, id, method, **arguments)
            if fails != "never":
                raise Failure("unavailable", "the connection broke")
            return result

        await world.run(call)

        assert await world.find() == []
    assert any(isinstance(each.outcome, Unknown) for each in world.workloads.history)


async def test_the_same_seed_makes_the_same_operations() -> None:
    histories = []
    for _ in range(2):
        async with open_world(seed=7) as world:
            await world.run(world.call, clients=1)
            histories.append([(each.client, each.object, each.method) for each in world.workloads.history])

    assert histories[0] == histories[1]


async def forget(call: Call, type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
    """Acknowledge a command that is never applied."""


async def repeat(call: Call, type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
    """Apply a command twice."""
    await call(type, id, method, **arguments)
    return await call(type, id, method, **arguments)


async def answer_zero(call: Call, type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
    """Answer from a state that is long gone."""
    return 0


async def answer_nothing(call: Call, type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
    """Show that nothing has happened yet."""
    return 0, 0


async def admit_all(call: Call, type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
    """Tell a caller that it got what somebody else holds."""
    with contextlib.suppress(Failure):
        await call(type, id, method, **arguments)


async def lose_half(call: Call, type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
    """Debit an account without a credit."""
    await call(type, id, method, **arguments)
    await call(type, id, method, **{**arguments, "to": "stranger"})


@pytest.mark.parametrize(
    ("kind", "method", "broken", "found"),
    [
        (Counters, "add", repeat, "no order of operations"),
        (Counters, "value", answer_zero, "no order of operations"),
        (Registers, "swap", answer_zero, "no order of operations"),
        (Registers, "value", answer_zero, "no order of operations"),
        (Names, "claim", admit_all, "no order of operations"),
        (Names, "claim", forget, "no order of operations"),
        (Events, "announce", repeat, "no order of operations"),
        (Tells, "note", forget, "was not told"),
        (Tells, "note", repeat, "times"),
        (Tells, "pass_on", forget, "was not told"),
        (Tells, "pass_on", repeat, "times"),
        (Tells, "progress", answer_nothing, "had shown"),
        (Alarms, "ring", forget, "never rang"),
        (Transfers, "transfer", lose_half, "the accounts hold"),
        (Transfers, "transfer", repeat, "outside of"),
        (Transfers, "transfer", forget, "outside of"),
    ],
)
async def test_a_broken_promise_is_found(kind: type[Workload], method: str, broken: Break, found: str) -> None:
    chance = random.Random(5)

    async with open_world(kind) as world:

        async def call(type: str, id: str, called: str, /, **arguments: Any) -> Any:
            if called == method and chance.random() < 0.2:
                return await broken(world.kit.call, type, id, called, arguments)
            return await world.kit.call(type, id, called, **arguments)

        await world.run(call)

        assert any(found in each for each in await world.find())


@pytest.mark.parametrize(
    ("order", "found"), [([1, 2, 2, 1, 3], ""), ([1, 3, 2], "in the order … 1, 3, 2 …"), ([2, 1, 3], "2, 1, 3")]
)
async def test_events_may_be_repeated_but_not_reordered(order: list[int], found: str) -> None:
    async with open_world(Events) as world:
        (events,) = world.workloads.all
        assert isinstance(events, Events)
        (id, *_) = events.ids
        for _ in range(3):
            await world.kit.call("tally", id, "announce")
        assert [each for each in await world.find() if "event 1" in each]
        for value in order:
            world.workloads.see(id, value)

        violations = [each for each in await world.find() if "events" in each]
    assert found in "".join(violations)
    assert bool(violations) == bool(found)


async def test_what_a_host_left_in_an_outbox_is_missing() -> None:
    async with open_world(Tells, Events, Transfers, Alarms) as world:
        client = Client("0", world.call)
        await world.workloads.prepare(client)
        await asyncio.gather(*(world.workloads.step(client) for _ in range(STEPS)))
        missing = " ".join(await world.workloads.find_missing(client))

    assert "event 1 of" in missing
    assert "alarm" in missing


async def test_an_order_of_tells_that_one_object_sent_is_kept() -> None:
    async with open_world(Tells) as world:
        (tells,) = world.workloads.all
        (to, *_) = tells.ids

        async def swapped(type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
            return None

        for number in (1, 2):
            answer = swapped("ledger", "a", "pass_on", {})
            arguments = {"to": to, "number": number}
            await tells.recorder.record("a", "ledger:a", "pass_on", arguments, answer)
        for number in (2, 1):
            await world.kit.call("ledger", to, "note", number=number)

        assert await world.find() == [f"ledger:{to} was told 2 before 1 by ledger:a"]


async def test_a_stored_tell_is_expected() -> None:
    stored = []

    async with open_world(Tells) as world:

        async def tell(type: str, id: str, method: str, arguments: Mapping[str, Any], message: str) -> None:
            stored.append((id, message))

        client = Client("0", world.call, tell)
        while not stored:
            await world.workloads.step(client)

        assert any(f"to ledger:{stored[0][0]}" in each for each in await world.workloads.find_missing(client))


def test_the_objects_are_those_that_a_host_serves() -> None:
    assert {kind.type for kind in KINDS} <= {cls.object_type for cls in CLASSES}
    assert all(subjects.is_type(kind.type) for kind in KINDS)
