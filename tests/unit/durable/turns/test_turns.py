"""One turn at a time, with all of its effects or none."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aidevos.durable.turns.environment import Limits
from aidevos.testing import ObjectKit
from tests.support.kits import begun, failure, quiet
from tests.support.objects import Tally

# The kit's error where a host would give no answer.


async def test_commands_run_one_after_another_and_queries_between_them(kit: ObjectKit) -> None:
    calls = [await begun(kit.call("tally", "a", name)) for name in ("add_slowly", "add_slowly", "value", "add_slowly")]
    assert not any(call.done() for call in calls)
    Tally.gate.set()
    assert await asyncio.gather(*calls) == [1, 2, 2, 3]


async def test_objects_do_not_wait_for_each_other(kit: ObjectKit) -> None:
    slow = await begun(kit.call("tally", "a", "add_slowly"))
    assert await kit.call("tally", "b", "add") == 1
    assert not slow.done()
    Tally.gate.set()
    await slow


@pytest.mark.parametrize(("how", "code"), [("failure", "conflict"), ("bug", "internal")])
@pytest.mark.parametrize("identified", [True, False])
async def test_a_turn_that_raises_leaves_no_trace(kit: ObjectKit, how: str, code: str, identified: bool) -> None:
    await kit.call("tally", "a", "put", key="nested", value={"deep": [1]})
    before = await kit.call("tally", "a", "_read")
    headers = {"Request-Id": "spoil"} if identified else {}
    refused = await failure(kit.call("tally", "a", "spoil", how=how, headers=headers))
    assert refused.code == code
    assert await kit.call("tally", "a", "_read") == before
    await kit.settle()
    assert kit.bus.events == []
    assert "other" not in kit.store.documents["tally"]
    assert await kit.call("tally", "a", "add") == 1


async def test_a_bug_is_an_internal_error_whose_id_finds_the_log_line(
    kit: ObjectKit, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        refused = await failure(kit.call("tally", "a", "spoil", how="bug"))
    assert (refused.status, refused.code) == (500, "internal")
    assert "bug" not in refused.detail
    assert refused.error_id is not None
    assert refused.error_id in caplog.text
    assert "KeyError" in caplog.text


async def test_a_query_that_changes_the_state_is_refused_and_undone(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", by=5)
    assert (await failure(kit.call("tally", "a", "cheat"))).code == "internal"
    shown = await kit.call("tally", "a", "everything")
    assert (shown["value"], shown["free"]) == (5, {})
    assert (await kit.call("tally", "a", "_read"))["version"] == 1


async def test_a_query_that_changes_the_state_is_refused_after_others_that_did_not(kit: ObjectKit) -> None:
    for value in (5, 10):
        await kit.call("tally", "a", "add", by=5)
        for _ in range(2):
            assert await kit.call("tally", "a", "value") == value
            assert (await failure(kit.call("tally", "a", "cheat"))).code == "internal"
    assert (await kit.call("tally", "a", "everything"))["value"] == 10


async def test_a_query_on_nothing_sees_the_default_and_writes_nothing(kit: ObjectKit) -> None:
    assert await kit.call("tally", "a", "value") == 0
    assert (await failure(kit.call("tally", "a", "_read"))).code == "not-found"
    await kit.settle()
    assert kit.store.documents["tally"] == {}
    assert Tally.hooks == ["activate a"] * 2


async def test_an_undone_turn_does_not_put_the_blame_for_its_encoding_on_the_next_query(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "take_share", share=3)
    await failure(kit.call("tally", "a", "spoil", how="failure"))
    assert (await kit.call("tally", "a", "everything"))["share"] == 3
    assert (await kit.call("tally", "a", "_read"))["version"] == 1


async def test_a_command_that_changes_nothing_leaves_the_version(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    assert await kit.call("tally", "a", "add", by=0, headers={"Request-Id": "nothing"}) == 1
    assert (await kit.call("tally", "a", "_read"))["version"] == 1


async def test_concurrent_first_calls_make_one_activation_and_one_claim(kit: ObjectKit) -> None:
    results = await asyncio.gather(*(kit.call("tally", "a", "add") for _ in range(20)))
    assert sorted(results) == list(range(1, 21))
    assert Tally.hooks == ["activate a"]
    assert kit.store.documents["tally"]["a"]["epoch"] == 1


async def test_without_a_lease_nothing_is_activated(kit: ObjectKit) -> None:
    kit.lease = False
    assert (await failure(kit.call("tally", "a", "add"))).code == "moved"
    assert kit.store.documents["tally"] == {}


@pytest.mark.parametrize("method", ["add", "value", "spoil"])
async def test_without_a_lease_nothing_is_executed_and_nothing_answered(kit: ObjectKit, method: str) -> None:
    await kit.call("tally", "a", "add")
    turns, commits = Tally.turns, kit.store.commits
    kit.lease = False
    call = kit.call("tally", "a", method, **({"how": "failure"} if method == "spoil" else {}))
    assert (await failure(call)).code == "moved"
    assert (Tally.turns, kit.store.commits) == (turns, commits)


async def test_an_answer_from_memory_that_waited_past_the_lease_is_never_given(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    change = await begun(kit.call("tally", "a", "add"))
    look = await begun(kit.call("tally", "a", "value"))
    kit.lease = False
    gate.set()
    assert await change == 2
    assert (await failure(look)).code == "moved"


async def test_a_full_mailbox_refuses_with_a_time_to_try_again() -> None:
    async with ObjectKit(Tally, limits=Limits(mailbox=2)) as kit:
        taken = [await begun(kit.call("tally", "a", "add_slowly")) for _ in range(3)]
        refused = await failure(kit.call("tally", "a", "add"))
        assert (refused.code, refused.status) == ("overloaded", 503)
        assert refused.retry_after is not None
        Tally.gate.set()
        assert await asyncio.gather(*taken) == [1, 2, 3]


async def test_a_state_past_its_bound_is_refused_logged_and_undone(caplog: pytest.LogCaptureFixture) -> None:
    async with ObjectKit(Tally, limits=Limits(state=10_000)) as kit:
        await kit.call("tally", "a", "grow", bytes=5000)
        refused = await failure(kit.call("tally", "a", "grow", bytes=5000))
        assert (refused.code, refused.field) == ("too-large", "state")
        assert "tally:a: a turn's state has 10" in caplog.text
        assert len((await kit.call("tally", "a", "everything"))["tags"]) == 1


async def test_an_outbox_past_its_bound_is_refused_and_undone() -> None:
    async with ObjectKit(Tally, limits=Limits(outbox=3)) as kit:
        never = await failure(kit.call("tally", "a", "tell_other", id="b", method="add", times=4))
        hanging = asyncio.Event()
        kit.store.faults.append(hanging)
        first = await begun(kit.call("tally", "a", "tell_other", id="b", method="add", times=3))
        later = await begun(kit.call("tally", "a", "tell_other", id="b", method="add", times=1))
        await quiet()
        hanging.set()
        await first
        refused = await failure(later)
        await kit.settle()
        assert (never.code, refused.code) == ("too-large", "overloaded")
        assert await kit.call("tally", "b", "value") == 3


@pytest.mark.parametrize("deadline", ["0", "-5"])
async def test_a_deadline_in_the_past_is_refused(kit: ObjectKit, deadline: str) -> None:
    refused = await failure(kit.call("tally", "a", "add", headers={"Deadline": deadline}))
    assert (refused.code, refused.status, refused.field) == ("deadline-past", 408, "Deadline")
    assert Tally.turns == 0


async def test_a_request_whose_deadline_passes_in_the_mailbox_is_not_executed(kit: ObjectKit) -> None:
    slow = await begun(kit.call("tally", "a", "add_slowly"))
    waiting = await begun(kit.call("tally", "a", "add", headers={"Deadline": "1"}))
    await asyncio.sleep(0.005)
    Tally.gate.set()
    assert (await failure(waiting)).code == "deadline-exceeded"
    assert (await slow, Tally.turns) == (1, 0)


async def test_a_turn_that_runs_past_its_deadline_is_undone_and_may_be_repeated(kit: ObjectKit) -> None:
    headers = {"Request-Id": "slow"}
    refused = await failure(kit.call("tally", "a", "add_slowly", headers=headers | {"Deadline": "10"}))
    assert (refused.code, refused.status) == ("deadline-exceeded", 504)
    assert await kit.call("tally", "a", "value") == 0
    Tally.gate.set()
    assert await kit.call("tally", "a", "add_slowly", headers=headers) == 1
