"""Commands that create their object: without a claim, once, and never over an existing one."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from aidevos.durable.store.memory import MemoryStore
from aidevos.testing import ObjectKit
from tests.support.kits import begun, chosen, crash, examples, failure
from tests.support.objects import Tally


class CountingStore(MemoryStore):
    """Counts the calls other than commits."""

    asked = 0

    async def claim(self, type: str, claims: Any) -> Any:
        self.asked += 1
        return await super().claim(type, claims)

    async def read(self, type: str, ids: Any) -> Any:
        self.asked += 1
        return await super().read(type, ids)


async def test_a_new_object_costs_one_commit_and_nothing_else() -> None:
    store = CountingStore()
    async with ObjectKit(Tally, store=store) as kit:
        assert await kit.call("tally", "a", "found", value=5) == 5
        assert await kit.call("tally", "a", "add") == 6
        assert store.asked == 0
    async with ObjectKit(Tally, store=store) as kit:
        assert (await kit.call("tally", "a", "_read"))["state"]["value"] == 6


async def test_one_that_is_there_is_what_the_command_sees() -> None:
    store = MemoryStore()
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add", by=3)
        before = store.documents["tally"]["a"]["version"]
    async with ObjectKit(Tally, store=store) as kit:
        refused = await failure(kit.call("tally", "a", "found", value=5))
        await kit.settle()

        assert refused.code == "exists"
        assert kit.bus.events == []
        assert store.documents["tally"]["a"]["version"] == before
        assert await kit.call("tally", "a", "add") == 4


async def test_nothing_is_answered_before_it_is_known_whether_the_object_is_there() -> None:
    store, gate = MemoryStore(), asyncio.Event()
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add", by=3)
    async with ObjectKit(Tally, store=store) as kit:
        store.faults.append(gate)
        founding = await begun(kit.call("tally", "a", "found", value=5))
        adding = await begun(kit.call("tally", "a", "add"))
        seeing = await begun(kit.call("tally", "a", "_read"))
        assert not any(task.done() for task in (founding, adding, seeing))
        gate.set()

        assert (await failure(founding)).code == "exists"
        assert await adding == 4
        assert (await seeing)["state"]["value"] in (3, 4)


async def test_a_refusal_is_no_answer_before_the_object_is_known() -> None:
    store = MemoryStore()
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "found", value=3)
    async with ObjectKit(Tally, store=store) as kit:
        stale = await failure(kit.call("tally", "a", "found", value=5, headers={"If-Match": '"9"'}))

        assert (stale.code, "version 1" in stale.detail) == ("precondition-failed", True)


async def test_a_repeat_after_a_crash_gets_what_was_recorded() -> None:
    store = MemoryStore()
    async with ObjectKit(Tally, store=store) as kit:
        store.faults.append("lose")
        assert await kit.call("tally", "a", "found", value=5, headers=chosen("r")) == 5
        await crash(kit)
    async with ObjectKit(Tally, store=store) as kit:
        assert await kit.call("tally", "a", "found", value=5, headers=chosen("r")) == 5
        await kit.settle()
        assert len(kit.bus.events) == 1


async def test_after_a_deletion_versions_go_on() -> None:
    async with ObjectKit(Tally) as kit:
        await kit.call("tally", "a", "found", value=5)
        await kit.call("tally", "a", "remove")
        store = kit.store
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "found", value=6)

        assert (await kit.call("tally", "a", "_read"))["version"] == 3


@examples(60)
@given(
    faults=st.lists(st.sampled_from(["pass", "fail", "lose"]), max_size=6),
    crashes=st.lists(st.integers(0, 30), max_size=3),
    calls=st.lists(st.sampled_from(["found", "add"]), min_size=1, max_size=6),
)
async def test_whatever_fails_an_object_is_founded_once_and_each_call_counts_once(
    faults: list[str], crashes: list[int], calls: list[str]
) -> None:
    open_gate = asyncio.Event()
    open_gate.set()
    kit = ObjectKit(Tally)
    kit.store.faults.extend(open_gate if fault == "pass" else fault for fault in faults)
    await kit.__aenter__()

    async def call(number: int, method: str) -> Any:
        args = {"value": 100} if method == "found" else {"by": 1}
        while True:
            try:
                return await kit.call("tally", "a", method, **args, headers=chosen(f"r{number}"))
            except Failure as raised:
                if not raised.retryable:
                    return raised
            await asyncio.sleep(0)

    async with asyncio.timeout(20):
        asked = [asyncio.create_task(call(number, method)) for number, method in enumerate(calls)]
        for steps in crashes:
            for _ in range(steps):
                await asyncio.sleep(0)
            old = kit
            kit = ObjectKit(Tally, store=old.store, bus=old.bus, clock=old.clock)
            await kit.__aenter__()
            await crash(old)
        answers = await asyncio.gather(*asked)
        kit.store.faults.clear()
        total = (await kit.call("tally", "a", "_read"))["state"]["value"]
        await kit.settle()
        await kit.runtime.close()

    founded = [answer for answer, method in zip(answers, calls, strict=True) if method == "found" and answer == 100]
    assert len(founded) <= 1
    assert total == 100 * len(founded) + calls.count("add")
