"""Objects against a model, with random faults, duplicates, interleavings and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos import Backoff
from aidevos.contracts.errors import Failure
from aidevos.durable.delivery import lanes
from aidevos.durable.ownership import commit
from aidevos.testing import ObjectKit
from services.objects.account import Account
from services.objects.counter import Counter
from tests.support.kits import chosen, crash, examples, numbered

ACCOUNTS = ("ann", "bob", "cid")
DEPOSIT = 100
LATE = 60

faults = st.lists(st.sampled_from(["pass", "pass", "fail", "lose", "late"]), max_size=12)
crashes = st.lists(st.integers(0, 60), max_size=5)


@pytest.fixture(autouse=True, scope="module")
def _impatient() -> Iterator[None]:
    """Retry without pauses."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (commit, lanes):
            patch.setattr(module, "BACKOFF", Backoff(0.0, 0.0))
        patch.setattr(commit, "CLEAR_AFTER", 0.0)
        yield


class Fleet:
    """One process at a time on one store; each crash is followed by the next process.

    Commits that were `late` in one process arrive in the next. Callers repeat unanswered requests, as the framework's
    clients do.
    """

    def __init__(self, type: type[Any], faults: list[str], crashes: list[int]) -> None:
        self._type = type
        self.kit = ObjectKit(type)
        passing = asyncio.Event()
        passing.set()
        self._late = asyncio.Event()
        events = {"pass": passing, "late": self._late}
        self.kit.store.faults.extend(events.get(fault, fault) for fault in faults)
        self._crashes = crashes

    async def __aenter__(self) -> Fleet:
        await self.kit.__aenter__()
        self._crashing = asyncio.create_task(self._crash())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._crashing
        self.kit.store.faults.clear()
        await self.kit.lifecycle.scan()
        await self.kit.settle()
        await self.kit.runtime.close()

    async def call(self, id: str, method: str, args: dict[str, Any], headers: dict[str, str]) -> Any:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await self.kit.call(self._type.object_type, id, method, **args, headers=headers)
                except Failure as failure:
                    if not failure.retryable:
                        raise
                await asyncio.sleep(0)

    async def _crash(self) -> None:
        for steps in self._crashes:
            for _ in range(steps):
                await asyncio.sleep(0)
            old = self.kit
            self.kit = ObjectKit(self._type, store=old.store, bus=old.bus, clock=old.clock)
            self.kit.letters = old.letters
            await crash(old)
            await self.kit.lifecycle.scan()
        for _ in range(LATE):
            await asyncio.sleep(0)
        self._late.set()


@examples(60)
@given(
    changes=st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 3), st.booleans()), min_size=1, max_size=12),
    faults=faults,
    crashes=crashes,
)
def test_each_request_is_applied_once_and_all_its_copies_get_the_same_answer(
    changes: list[tuple[int, int, bool]], faults: list[str], crashes: list[int]
) -> None:
    async def run() -> tuple[list[list[int]], int]:
        async with Fleet(Counter, faults, crashes) as fleet:

            async def send(count: int, by: int, copies: int, is_numbered: bool) -> list[int]:
                headers = numbered("c", count) if is_numbered else chosen(f"id{count}")
                calls = [fleet.call("clicks", "increment", {"by": by}, headers) for _ in range(copies)]
                return [*await asyncio.gather(*calls), await fleet.call("clicks", "increment", {"by": by}, headers)]

            sent = [send(count, *change) for count, change in enumerate(changes, 1)]
            answers = await asyncio.gather(*sent)
            return answers, await fleet.call("clicks", "value", {}, {})

    answers, value = asyncio.run(run())
    assert all(len(set(copies)) == 1 for copies in answers)
    assert value == sum(by for by, _, _ in changes)
    assert _is_a_history([(by, copies[0]) for (by, _, _), copies in zip(changes, answers, strict=True)])


def _is_a_history(results: list[tuple[int, int]]) -> bool:
    """Return True if some order of the changes explains every result: value before + change = value after."""
    before: dict[int, int] = {}
    for by, after in results:
        before[after - by] = before.get(after - by, 0) + 1
        before[after] = before.get(after, 0) - 1
    # An Eulerian path from 0 to the sum leaves each value as often as it reaches it.
    total = sum(by for by, _ in results)
    balance = {value: count for value, count in before.items() if count}
    return balance == ({0: 1, total: -1} if total else {})


@examples(40)
@given(
    transfers=st.lists(
        st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from([*ACCOUNTS, "closed"]), st.integers(1, 60)),
        min_size=1,
        max_size=12,
    ),
    faults=faults,
    crashes=crashes,
)
def test_the_sum_of_a_ledger_is_preserved_and_every_transfer_ends(
    transfers: list[tuple[str, str, int]], faults: list[str], crashes: list[int]
) -> None:
    async def run() -> tuple[list[dict[str, Any]], list[str], dict[str, Any]]:
        async with Fleet(Account, faults, crashes) as fleet:
            for id in ACCOUNTS:
                await fleet.call(id, "deposit", {"amount": DEPOSIT}, chosen("deposit"))
            await fleet.call("closed", "close", {}, chosen("close"))

            async def transfer(count: int, source: str, to: str, amount: int) -> str:
                try:
                    await fleet.call(source, "transfer", {"to": to, "amount": amount}, chosen(f"transfer{count}"))
                except Failure as refused:
                    return refused.code
                return "done"

            codes = await asyncio.gather(*(transfer(count, *item) for count, item in enumerate(transfers)))
        store = fleet.kit.store
        return [store.documents["account"][id] for id in (*ACCOUNTS, "closed")], codes, fleet.kit.letters

    documents, codes, letters = asyncio.run(run())
    states = [document["state"] for document in documents]
    assert sum(state["balance"] for state in states) == DEPOSIT * len(ACCOUNTS)
    assert all(state["balance"] >= 0 for state in states)
    assert all((state["outgoing"], state["received"]) == ({}, {}) for state in states)
    assert states[-1]["balance"] == 0
    assert all(document.get("outbox", {}) == {} for document in documents)
    assert letters == {}
    assert set(codes) <= {"done", "insufficient-funds", "invalid"}
