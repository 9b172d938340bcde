"""Nothing is visible before its commit, and uncommitted changes leave no trace."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aidevos.contracts import subjects
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.ownership import commit
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Document, Outcome
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import begun, chosen, failure, quiet, until
from tests.support.objects import Tally


@pytest.fixture
async def hung(kit: ObjectKit) -> AsyncIterator[asyncio.Event]:
    """Give the object `a` the value 1, and yield an event for which its next commit waits."""
    await kit.call("tally", "a", "add")
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    yield gate
    gate.set()


async def lose_the_store(kit: ObjectKit, gate: asyncio.Event) -> None:
    """Let the waiting commit fail with an unknown outcome, then restore the store."""
    kit.store.down = True
    gate.set()
    await quiet()
    kit.store.down = False


async def test_no_reply_and_no_event_leaves_while_the_commit_is_under_way(kit: ObjectKit, hung: asyncio.Event) -> None:
    change = await begun(kit.call("tally", "a", "add_loudly"))
    assert not change.done()
    assert kit.bus.events == []
    hung.set()
    assert await change == 2
    await kit.settle()
    assert len(kit.bus.events) == 1


@pytest.mark.parametrize(
    ("method", "headers", "answer"),
    [
        ("value", {}, 2),
        ("_read", {}, None),
        ("add", chosen("same"), 2),
        ("add", {"If-Match": '"1"'}, None),
        ("add", chosen("same", **{"If-Match": '"2"'}), None),
    ],
    ids=["query", "management", "duplicate", "precondition", "reused-id"],
)
async def test_whoever_saw_uncommitted_state_waits_for_its_commit(
    kit: ObjectKit, hung: asyncio.Event, method: str, headers: dict[str, str], answer: Any
) -> None:
    change = await begun(kit.call("tally", "a", "add", headers=chosen("same")))
    look = await begun(kit.call("tally", "a", method, headers=headers))
    assert not look.done()
    hung.set()
    await change
    if method == "_read":
        assert (await look)["version"] == 2
    elif answer is None:
        assert (await failure(look)).status in (412, 422)
    else:
        assert await look == answer
    assert kit.store.documents["tally"]["a"]["state"]["value"] == 2


async def test_a_turn_sees_the_uncommitted_state_of_the_one_before(kit: ObjectKit, hung: asyncio.Event) -> None:
    calls = [await begun(kit.call("tally", "a", "add_loudly")) for _ in range(3)]
    assert kit.store.commits == 1
    hung.set()
    assert await asyncio.gather(*calls) == [2, 3, 4]
    assert kit.store.commits == 3


async def test_each_turn_of_a_merged_commit_has_a_version_of_its_own(kit: ObjectKit, hung: asyncio.Event) -> None:
    calls = [await begun(kit.call("tally", "a", "add")) for _ in range(4)]
    conditional = await begun(kit.call("tally", "a", "add", headers={"If-Match": '"5"'}))
    outdated = await begun(kit.call("tally", "a", "add", headers={"If-Match": '"5"'}))
    hung.set()
    assert await asyncio.gather(*calls, conditional) == [2, 3, 4, 5, 6]
    assert (await failure(outdated)).code == "precondition-failed"
    assert kit.store.commits == 3
    assert (await kit.call("tally", "a", "_read"))["version"] == 6
    assert kit.store.documents["tally"]["a"]["version"] == 6


async def test_when_a_commit_fails_all_who_built_on_it_fail_and_nothing_of_it_was_there(
    kit: ObjectKit, hung: asyncio.Event
) -> None:
    first = await begun(kit.call("tally", "a", "add_loudly"))
    second = await begun(kit.call("tally", "a", "add_loudly"))
    look = await begun(kit.call("tally", "a", "value"))
    await lose_the_store(kit, hung)
    assert [(await failure(call)).code for call in (first, second, look)] == ["unavailable"] * 3
    assert await kit.call("tally", "a", "value") == 1
    assert await kit.call("tally", "a", "add") == 2
    await kit.settle()
    assert kit.bus.events == []


async def test_while_one_bulk_write_is_under_way_the_next_one_gathers(kit: ObjectKit, hung: asyncio.Event) -> None:
    await begun(kit.call("tally", "a", "add"))
    calls = [await begun(kit.call("tally", id, "add")) for id in "bcda"]
    assert not any(call.done() for call in calls)
    hung.set()
    assert await asyncio.gather(*calls) == [1, 1, 1, 3]
    assert kit.store.commits == 3


async def test_a_call_to_another_object_waits_for_the_commits_of_earlier_turns(
    kit: ObjectKit, hung: asyncio.Event
) -> None:
    first = await begun(kit.call("tally", "a", "add"))
    second = await begun(kit.call("tally", "a", "call_other", id="b", method="add"))
    assert "b" not in kit.store.documents["tally"]
    hung.set()
    assert [await first, await second] == [2, 1]


async def test_an_old_owner_can_neither_write_nor_answer_what_it_had_under_way(
    kit: ObjectKit, hung: asyncio.Event
) -> None:
    late = await begun(kit.call("tally", "a", "add_loudly", by=100))
    async with ObjectKit(Tally, store=kit.store) as successor:
        assert await successor.call("tally", "a", "add") == 2
        hung.set()
        assert (await failure(late)).code == "unavailable"
        assert await successor.call("tally", "a", "value") == 2
    assert kit.bus.events == []
    assert await kit.call("tally", "a", "add") == 3


async def test_an_old_owner_does_not_bring_a_purged_object_back(kit: ObjectKit, hung: asyncio.Event) -> None:
    late = await begun(kit.call("tally", "a", "add"))
    del kit.store.documents["tally"]["a"]
    hung.set()
    assert (await failure(late)).code == "unavailable"
    assert "a" not in kit.store.documents["tally"]


@pytest.mark.parametrize(("fault", "value"), [("lose", 2), ("fail", 1)])
async def test_a_commit_of_unknown_outcome_is_neither_lost_nor_applied_twice(
    kit: ObjectKit, fault: str, value: int
) -> None:
    await kit.call("tally", "a", "add")
    kit.store.faults.append(fault)
    args: Any = ("tally", "a", "add_loudly")
    if fault == "lose":
        assert await kit.call(*args, headers=chosen("once")) == 2
    else:
        refused = await failure(kit.call(*args, headers=chosen("once")))
        assert (refused.code, refused.retryable) == ("unavailable", True)
    assert await kit.call("tally", "a", "value") == value
    assert await kit.call(*args, headers=chosen("once")) == 2
    assert await kit.call("tally", "a", "value") == 2
    await kit.settle()
    assert len(kit.bus.events) == 1


async def test_a_lost_answer_of_the_store_is_no_failure_also_without_a_request_id(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    kit.store.faults.append("lose")
    assert await kit.call("tally", "a", "add") == 2


class DarkStore(MemoryStore):
    """A store that applies one commit, loses its answer, and stays unreachable for this process."""

    async def commit(self, type: str, commits: Any) -> list[Outcome]:
        await super().commit(type, commits)
        self.down = True
        return [Outcome.UNKNOWN for _ in commits]


@pytest.mark.parametrize(("headers", "code"), [(chosen("once"), None), ({}, "unavailable")])
async def test_an_unknown_outcome_behind_a_successor_s_commits_is_read_from_the_records(
    kit: ObjectKit, headers: dict[str, str], code: str | None
) -> None:
    dark = DarkStore()
    dark.documents = kit.store.documents
    async with ObjectKit(Tally, store=dark) as old:
        call = await begun(old.call("tally", "a", "add", headers=headers))
        await until(lambda: dark.down)
        assert await kit.call("tally", "a", "add") == 2
        dark.down = False
        if code is None:
            assert await call == 1
        else:
            assert (await failure(call)).code == code
    assert kit.store.documents["tally"]["a"]["state"]["value"] == 2


class SlowStore(MemoryStore):
    """A store that reports an unknown outcome for its next commit, and applies it when `arrive` is called."""

    slow = False

    async def commit(self, type: str, commits: Any) -> list[Outcome]:
        if not self.slow:
            return await super().commit(type, commits)
        self.slow = False
        self.arrive = lambda: [self._apply(type, commit) for commit in commits]
        return [Outcome.UNKNOWN for _ in commits]


async def test_a_commit_that_arrives_after_its_outcome_was_resolved_changes_nothing() -> None:
    store = SlowStore()
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add")
        store.slow = True
        refused = await failure(kit.call("tally", "a", "add", headers=chosen("once")))
        assert refused.code == "unavailable"
        assert store.arrive() == [Outcome.FENCED]
        assert await kit.call("tally", "a", "add", headers=chosen("once")) == 2
        assert store.documents["tally"]["a"]["state"]["value"] == 2


async def test_after_a_larger_bulk_write_the_next_one_waits_for_more(
    kit: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    commit: Any = kit.store.commit

    async def count(type: str, commits: Any) -> Any:
        sizes.append(len(commits))
        return await commit(type, commits)

    monkeypatch.setattr(kit.store, "commit", count)
    # Longer than a busy machine takes until the others have come.
    monkeypatch.setattr("aidevos.durable.ownership.commit.GATHER", 0.5)
    await asyncio.gather(*(kit.call("tally", id, "add") for id in "abc"))

    first = await begun(kit.call("tally", "a", "add"))
    await asyncio.gather(first, *(kit.call("tally", id, "add") for id in "bc"))

    assert sizes[-1] == 3


async def test_one_unknown_outcome_does_not_hold_up_other_objects(kit: ObjectKit) -> None:
    for id in "ab":
        await kit.call("tally", id, "add")
    kit.store.faults.append("fail")
    lost = await begun(kit.call("tally", "a", "add"))
    assert await kit.call("tally", "b", "add") == 2
    assert (await failure(lost)).code == "unavailable"


async def test_what_comes_while_an_outcome_is_unknown_waits_for_the_successor(
    kit: ObjectKit, hung: asyncio.Event
) -> None:
    lost = await begun(kit.call("tally", "a", "add"))
    kit.store.down = True
    hung.set()
    await quiet()
    waiting = [await begun(kit.call("tally", "a", method)) for method in ("add", "value")]
    assert not any(call.done() for call in waiting)
    kit.store.down = False
    assert (await failure(lost)).code == "unavailable"
    assert await asyncio.gather(*waiting) == [2, 2]


async def test_a_caller_that_cannot_be_answered_leaves_the_others_of_its_commit_no_worse_off(
    kit: ObjectKit, hung: asyncio.Event
) -> None:
    def break_off(answer: Any) -> None:
        raise OSError("the caller's connection broke")

    await begun(kit.call("tally", "a", "add"))
    kit.router.dispatch(f"dop.{subjects.partition('tally', 'a')}.tally.a.add", b"", {}, ADMIN, break_off)
    other = await begun(kit.call("tally", "a", "add", headers=chosen("other")))
    look = await begun(kit.call("tally", "a", "value"))
    hung.set()
    assert [(await failure(call)).code for call in (other, look)] == ["unavailable"] * 2
    assert await kit.call("tally", "a", "add", headers=chosen("other")) == 4
    assert await kit.call("tally", "a", "value") == 4


class RaisingStore(MemoryStore):
    """A store whose next commit raises, or whose next claim returns unreadable records."""

    raises = False
    garbles = False

    async def commit(self, type: str, commits: Any) -> list[Outcome]:
        if self.raises:
            self.raises = False
            raise OverflowError("a bug in the store")
        return await super().commit(type, commits)

    async def claim(self, type: str, claims: Any) -> dict[str, Document]:
        documents = await super().claim(type, claims)
        if self.garbles:
            self.garbles = False
            for document in documents.values():
                document.replies = {"chosen": defaultdict(lambda: {"h": b""})}
        return documents


@pytest.mark.parametrize("garbles", [False, True], ids=["commit", "claim"])
async def test_no_caller_hangs_if_the_store_behaves_in_an_unexpected_way(garbles: bool) -> None:
    store = RaisingStore()
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add")
        store.raises, store.garbles = True, garbles
        async with asyncio.timeout(5):
            assert (await failure(kit.call("tally", "a", "add", headers=chosen("once")))).code == "unavailable"
        assert await kit.call("tally", "a", "add", headers=chosen("once")) == 2


async def test_an_unknown_outcome_is_not_resolved_by_a_claim_without_the_lease(
    kit: ObjectKit, hung: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "BACKOFF", Backoff(0.0, 0.0))
    lost = await begun(kit.call("tally", "a", "add", headers=chosen("once")))
    kit.lease = False
    await lose_the_store(kit, hung)
    await quiet()
    assert kit.store.documents["tally"]["a"]["epoch"] == 1
    kit.lease = True
    assert (await failure(lost)).code == "unavailable"
    assert kit.store.documents["tally"]["a"]["epoch"] == 2
