"""Objects that call each other: never in a circle, never twice, never longer than the caller waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from aidevos import BaseDurableObject, Failure, authenticated, command, permission, query
from aidevos.durable.base.clock import ManualClock
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Claim, Document
from aidevos.security.permissions import Principal
from aidevos.testing import SERVICE, ObjectKit
from tests.support.kits import begun, chosen, crash, failure
from tests.support.objects import Tally


class Words(msgspec.Struct):
    text: str = "two words"


class Librarian(BaseDurableObject[Words], type="librarian"):
    gate: ClassVar[asyncio.Event]

    async def on_activate(self) -> None:
        self.words = self.state.text.split()

    @query(allow=authenticated(), reentrant=True)
    async def count_words(self) -> int:
        return len(self.words)

    @command(allow=authenticated())
    async def wait(self) -> None:
        Librarian.gate = asyncio.Event()
        await Librarian.gate.wait()


# The headers of a call that the object `a` waits for.
WAITING = {"Call-Chain": "tally:a"}


@pytest.mark.parametrize("ids", [["a"], ["b", "a"], ["b", "c", "a"]], ids=["itself", "two", "three"])
async def test_a_circle_of_calls_is_a_deadlock_at_once(kit: ObjectKit, ids: list[str]) -> None:
    async with asyncio.timeout(2):
        refused = await failure(kit.call("tally", "a", "call_round", ids=ids, method="add"))
    assert (refused.code, refused.status) == ("deadlock", 409)
    assert "tally:a" in refused.detail
    assert await kit.call("tally", "a", "value") == 0


async def test_a_chain_of_calls_without_a_circle_is_none(kit: ObjectKit) -> None:
    assert await kit.call("tally", "a", "call_round", ids=["b", "c", "d"], method="value") == 0


@pytest.mark.parametrize(
    ("chain", "code"), [("tally:x," * 16 + "tally:y", "deadlock"), ("no id", "invalid"), ("tally:a", "deadlock")]
)
async def test_a_chain_that_is_too_long_or_none_is_refused(kit: ObjectKit, chain: str, code: str) -> None:
    refused = await failure(kit.call("tally", "a", "add", headers={"Call-Chain": chain}))
    assert refused.code == code
    assert Tally.turns == 0


async def test_a_reentrant_query_answers_from_the_last_committed_state(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", by=5)
    args = {"id": "a", "method": "committed", "by": 100}
    assert await kit.call("tally", "a", "call_other", **args) == 5
    assert await kit.call("tally", "a", "committed") == 105


async def test_a_reentrant_query_shows_nothing_of_an_open_commit(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    before = await kit.call("tally", "a", "_read")
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    kit.clock.advance(60.0)
    changes = [await begun(kit.call("tally", "a", method)) for method in ("add", "remove")]

    assert await kit.call("tally", "a", "committed_view", headers=WAITING) == before

    gate.set()
    await asyncio.gather(*changes)
    assert (await failure(kit.call("tally", "a", "committed_view", headers=WAITING))).code == "not-found"


async def test_a_reentrant_query_does_not_wait_for_a_command_of_another_caller(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", by=5)

    async with asyncio.timeout(2):
        changed = await asyncio.gather(
            kit.call("tally", "a", "call_other", id="b", method="add", by=100),
            kit.call("tally", "b", "call_other", id="a", method="committed"),
        )

    assert changed == [1, 5]
    assert await kit.call("tally", "a", "committed") == 105


async def test_a_reentrant_query_does_not_wait_for_a_command_that_wakes_its_object() -> None:
    class SlowClaims(MemoryStore):
        async def claim(self, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
            if "a" in [claim.id for claim in claims]:
                await asyncio.sleep(0.05)
            return await super().claim(type, claims)

    async with ObjectKit(Tally, store=SlowClaims()) as kit, asyncio.timeout(2):
        await kit.call("tally", "b", "add")
        changed = await asyncio.gather(
            kit.call("tally", "a", "call_other", id="b", method="add", by=100),
            kit.call("tally", "b", "call_other", id="a", method="committed"),
        )
    assert changed == [2, 0]


async def test_a_reentrant_query_has_what_on_activate_builds_also_beside_a_command() -> None:
    async with ObjectKit(Librarian) as kit:
        assert await kit.call("librarian", "a", "count_words") == 2
        waiting = await begun(kit.call("librarian", "a", "wait"))
        assert await kit.call("librarian", "a", "count_words") == 2
        Librarian.gate.set()
        await waiting


async def test_a_call_to_a_type_that_is_unknown_at_first_may_be_repeated(
    kit: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: Any, **options: Any) -> bytes:
        raise Failure("unknown-type", "no host serves the type 'tally'")

    with monkeypatch.context() as patched:
        patched.setattr(kit, "request", refuse)
        refused = await failure(kit.call("tally", "a", "call_other", id="b", method="add", headers=chosen("once")))
    assert refused.code == "unknown-type"
    assert await kit.call("tally", "a", "call_other", id="b", method="add", headers=chosen("once")) == 1


async def test_a_reentrant_query_on_an_object_that_is_being_created_answers_from_the_store(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", by=3)
    async with ObjectKit(Tally, store=kit.store) as other:
        gate = asyncio.Event()
        kit.store.faults.append(gate)
        creation = await begun(other.call("tally", "a", "found", value=5))

        assert await other.call("tally", "a", "committed", headers=WAITING) == 3
        kit.store.down = True
        assert (await failure(other.call("tally", "a", "committed", headers=WAITING))).code == "unavailable"

        kit.store.down = False
        gate.set()
        assert (await failure(creation)).code == "exists"


async def test_a_reentrant_query_on_an_object_that_is_not_in_memory_answers_from_the_store(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", by=3)
    async with ObjectKit(Tally, store=kit.store) as other:
        assert await other.call("tally", "a", "committed", headers=WAITING) == 3
        assert (await failure(other.call("tally", "a", "value", headers=WAITING))).code == "deadlock"
        other.lease = False
        assert (await failure(other.call("tally", "a", "committed", headers=WAITING))).code == "moved"


async def test_a_reentrant_query_does_not_trip_over_how_the_state_was_encoded(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "take_share", share=3)
    assert await kit.call("tally", "a", "call_other", id="a", method="committed") == 0


@pytest.mark.parametrize("way", ["ask_other", "forward_to"])
async def test_a_query_reaches_only_queries(kit: ObjectKit, way: str, caplog: pytest.LogCaptureFixture) -> None:
    await kit.call("tally", "b", "add", by=3)
    assert await kit.call("tally", "a", way, id="b", method="value") == 3

    refused = await failure(kit.call("tally", "a", way, id="b", method="add"))

    assert (refused.status, refused.code) == (500, "internal")
    assert f"tally:a.{way} raised" in caplog.text
    assert "a query can call only queries: tally.add is a command" in caplog.text
    assert await kit.call("tally", "b", "value") == 3


async def test_a_request_that_asks_for_a_query_reaches_no_command(kit: ObjectKit) -> None:
    refused = await failure(kit.call("tally", "a", "add", headers={"Query-Only": "true"}))
    assert (refused.code, refused.status) == ("query-only", 409)
    assert Tally.turns == 0


async def test_a_repeated_turn_repeats_no_call(kit: ObjectKit) -> None:
    for id in "ab":
        await kit.call("tally", id, "put", key="warm", value=1)
    passing = asyncio.Event()
    passing.set()
    kit.store.faults.extend([passing, "fail"])
    args = {"id": "b", "method": "add", "by": 10}
    refused = await failure(kit.call("tally", "a", "call_other", **args, headers=chosen("once")))
    assert refused.code == "unavailable"
    assert [await kit.call("tally", id, "value") for id in "ab"] == [0, 1]
    assert await kit.call("tally", "a", "call_other", **args, headers=chosen("once")) == 1
    assert [await kit.call("tally", id, "value") for id in "ab"] == [10, 1]
    assert await kit.call("tally", "a", "call_other", **args, headers=chosen("twice")) == 2


class VaultState(msgspec.Struct):
    opened: int = 0


class Vault(BaseDurableObject[VaultState], type="vault"):
    @command(allow=permission("vault:write"))
    async def open(self) -> int:
        self.state.opened += 1
        return self.state.opened

    @command(allow=authenticated())
    async def refuse(self) -> None:
        self.state.opened += 1
        raise Failure("forbidden", "not to you")

    @command(allow=authenticated())
    async def call_on(self, ids: list[str], method: str) -> Any:
        if len(ids) == 1:
            return await self.call("vault", ids[0], method)
        return await self.call("vault", ids[0], "call_on", ids=ids[1:], method=method)


@pytest.mark.parametrize("ids", [["b"], ["b", "c"]], ids=["one call", "a call of a call"])
async def test_a_permission_that_the_service_lacks_is_named_and_no_outcome(
    ids: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    args = {"ids": ids, "method": "open"}
    async with ObjectKit(Vault) as kit:
        kit.principal = Principal("service:test", ("service",))
        refused = await failure(kit.call("vault", "a", "call_on", **args, headers=chosen("once")))
        kit.principal = SERVICE

        assert (refused.code, refused.status) == ("forbidden", 403)
        assert refused.detail == (
            "vault.open needs vault:write, which the service that runs vault.call_on lacks; "
            "the setting AIDEVOS_SERVICE_PERMISSIONS of that service grants it permissions"
        )
        assert refused.detail in caplog.text
        assert await kit.call("vault", "a", "call_on", **args, headers=chosen("once")) == 1


async def test_a_refusal_by_another_object_is_an_outcome_like_any_other() -> None:
    args = {"ids": ["b"], "method": "refuse"}
    async with ObjectKit(Vault) as kit:
        for _ in range(2):
            refused = await failure(kit.call("vault", "a", "call_on", **args, headers=chosen("once")))
            assert (refused.code, refused.detail) == ("forbidden", "not to you")
        assert len(kit.store.documents["vault"]["a"]["replies"]["chosen"]) == 1


async def test_a_callee_s_failure_reaches_the_caller_and_undoes_its_turn(kit: ObjectKit) -> None:
    refused = await failure(kit.call("tally", "a", "call_other", id="b", method="no_such", by=5))
    assert refused.code == "unknown-method"
    assert await kit.call("tally", "a", "value") == 0


async def test_the_callee_has_no_more_time_than_the_caller(kit: ObjectKit) -> None:
    args = {"id": "b", "method": "add_slowly", "by": 5}
    refused = await failure(kit.call("tally", "a", "call_other", **args, headers={"Deadline": "30"}))
    assert refused.code == "deadline-exceeded"
    async with asyncio.timeout(2):
        assert [await kit.call("tally", id, "value") for id in "ab"] == [0, 0]


async def test_a_turn_whose_object_is_taken_over_fails_and_its_successor_goes_on(kit: ObjectKit) -> None:
    call = await begun(kit.call("tally", "a", "add_slowly"))
    await crash(kit)
    assert (await failure(call)).code == "unavailable"
    Tally.gate.set()
    assert await ObjectKit(Tally, store=kit.store, clock=ManualClock()).call("tally", "a", "add_slowly") == 1
