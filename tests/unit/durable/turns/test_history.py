"""The history of an object: every version that a turn has made, also from merged commits and after faults."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos import BaseDurableObject, Failure, authenticated, command, query, upcast
from aidevos.durable.base.clock import ManualClock
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.turns import history
from aidevos.durable.turns.environment import Limits
from aidevos.security.permissions import Principal
from aidevos.testing import ObjectKit
from tests.support.kits import chosen, crash, examples, failure, quiet, until

ALICE = Principal("alice")
DAY = 86_400.0


class PageState(msgspec.Struct):
    text: str = ""
    marks: int = 0


class Page(BaseDurableObject[PageState], type="page", management="raw", history=100):
    """A page whose versions are kept."""

    @command(allow=authenticated())
    async def write(self, text: str) -> int:
        self.state.text = text
        return self.version + 1

    @command(allow=authenticated())
    async def write_twice(self, first: str, last: str) -> None:
        self.state.text = first
        await self.checkpoint()
        self.state.text = last

    @command(allow=authenticated(), keeps_version=True)
    async def mark(self) -> None:
        self.state.marks += 1

    @command(allow=authenticated())
    async def fail(self, text: str) -> None:
        self.state.text = text
        raise Failure("conflict", "no")

    @command(allow=authenticated())
    async def remove(self) -> None:
        await self.delete()

    @command(allow=authenticated())
    async def erase(self, text: str | None = None) -> None:
        self.state.text = self.state.text if text is None else text
        await self.versions.forget()

    @command(allow=authenticated())
    async def undo(self) -> str:
        await self.versions.restore(self.version - 1)
        return self.state.text

    @query(allow=authenticated())
    async def undo_in_a_query(self) -> None:
        await self.versions.restore(1)

    @query(allow=authenticated(), reentrant=True)
    async def authors(self) -> list[str]:
        return [version.caller for version in await self.versions.list()]

    async def on_restore(self, version: int) -> None:
        self.state.marks = 100 + version


async def versions(kit: ObjectKit, id: str = "a", type: str = "page") -> list[dict[str, Any]]:
    """Return all versions, page by page."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await kit.call(type, id, "_versions", limit=7, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def texts(kit: ObjectKit, id: str = "a", type: str = "page") -> dict[int, str | None]:
    """Return the text of each version, or None for a deletion."""
    found = {}
    for version in reversed(await versions(kit, id, type)):
        state = (await kit.call(type, id, "_read_version", version=version["version"]))["state"]
        found[version["version"]] = None if state is None else state["text"]
    return found


@pytest.fixture
async def kit() -> Any:
    async with ObjectKit(Page) as kit:
        yield kit


async def test_each_version_is_kept_with_its_time_caller_method_and_request(kit: ObjectKit) -> None:
    await kit.call("page", "a", "write", text="one", caller=ALICE, headers=chosen("first"))
    kit.clock.advance(60.0)
    await kit.call("page", "a", "write", text="two")

    newest, oldest = await versions(kit)
    assert (oldest["version"], oldest["caller"], oldest["method"]) == (1, "alice", "write")
    assert (oldest["request_id"], oldest["schema_version"], oldest["deleted"]) == ("first", 1, False)
    assert (newest["version"], newest["caller"], newest["request_id"]) == (2, "admin", "")
    assert newest["at"] > oldest["at"]
    assert await texts(kit) == {1: "one", 2: "two"}


async def test_a_history_costs_no_commit_and_a_turn_without_a_new_version_adds_nothing(kit: ObjectKit) -> None:
    for text in ("one", "one"):
        await kit.call("page", "a", "write", text=text)
    await kit.call("page", "a", "mark")
    await failure(kit.call("page", "a", "fail", text="never"))
    assert kit.store.commits == 2
    assert await texts(kit) == {1: "one"}

    await kit.call("page", "a", "write_twice", first="two", last="three")
    assert await texts(kit) == {1: "one", 2: "two", 3: "three"}


async def test_turns_that_share_a_commit_are_all_in_the_history(kit: ObjectKit) -> None:
    kit.store.faults.append(gate := asyncio.Event())
    calls = [asyncio.create_task(kit.call("page", "a", "write", text=f"{n}")) for n in range(10)]
    await quiet()
    gate.set()
    await asyncio.gather(*calls)
    assert kit.store.commits == 1
    assert await texts(kit) == {number + 1: f"{number}" for number in range(10)}


async def test_older_versions_move_to_the_collection_and_only_the_newest_are_kept(kit: ObjectKit) -> None:
    for number in range(1, 251):
        await kit.call("page", "a", "write", text=f"{number}")
    await kit.settle()
    document = kit.store.documents["page"]["a"]["history"]
    assert len(document["entries"]) <= history.IN_DOCUMENT + 1
    assert kit.store.commits == 250
    assert document["moved"]
    assert min(kit.store.versions["page", "a"]) > 100

    assert await texts(kit) == {number: f"{number}" for number in range(151, 251)}
    assert (await failure(kit.call("page", "a", "_read_version", version=150))).code == "not-found"
    await crash(kit)
    async with ObjectKit(Page, store=kit.store) as next_owner:
        assert await texts(next_owner) == {number: f"{number}" for number in range(151, 251)}
    assert len(kit.store.versions["page", "a"]) + len(document["entries"]) < 100 + 2 * history.IN_DOCUMENT


async def test_large_versions_are_compressed_and_the_document_stays_small(kit: ObjectKit) -> None:
    text = "long " * 20_000
    for number in range(40):
        await kit.call("page", "a", "write", text=f"{number} {text}")
    document = kit.store.documents["page"]["a"]
    assert sum(len(entry["d"]) for entry in document["history"]["entries"].values()) < history.BYTES_IN_DOCUMENT
    assert await texts(kit) == {number + 1: f"{number} {text}" for number in range(40)}


async def test_versions_wait_in_the_document_while_they_can_t_be_moved(kit: ObjectKit) -> None:
    store, tries = kit.store, 0
    keep = store.keep_versions

    async def fail_first(*args: Any) -> None:
        nonlocal tries
        tries += 1
        store.down = tries < 3
        try:
            await keep(*args)
        finally:
            store.down = False

    store.keep_versions = fail_first
    for number in range(1, 41):
        await kit.call("page", "a", "write", text=f"{number}")
    await until(lambda: tries == 3)
    await kit.call("page", "a", "write", text="41")
    assert len(store.documents["page"]["a"]["history"]["entries"]) < 10
    assert await texts(kit) == {number: f"{number}" for number in range(1, 42)}


async def test_restoring_makes_a_new_version_and_obeys_the_rules_of_a_command(kit: ObjectKit) -> None:
    for text in ("one", "two"):
        await kit.call("page", "a", "write", text=text)
    stale = chosen("stale", **{"If-Match": '"1"'})
    assert (await failure(kit.call("page", "a", "_restore", version=1, headers=stale))).code == ("precondition-failed")
    assert (await failure(kit.call("page", "a", "_restore", version=1, caller=ALICE))).code == "forbidden"
    assert (await failure(kit.call("page", "a", "_restore", version=9))).code == "not-found"

    fresh = chosen("again", **{"If-Match": '"2"'})
    for _ in range(2):
        restored = await kit.call("page", "a", "_restore", version=1, headers=fresh)
        assert (restored["version"], restored["state"]) == (3, {"text": "one", "marks": 101})
    assert await texts(kit) == {1: "one", 2: "two", 3: "one"}
    assert await kit.call("page", "a", "undo") == "two"
    assert (await versions(kit))[0]["method"] == "undo"


async def test_a_query_restores_nothing() -> None:
    async with ObjectKit(Page, strict=False) as kit:
        await kit.call("page", "a", "write", text="one")
        assert (await failure(kit.call("page", "a", "undo_in_a_query"))).code == "internal"


async def test_a_deleted_object_can_be_restored_and_a_new_one_has_a_history_of_its_own(kit: ObjectKit) -> None:
    await kit.call("page", "a", "write", text="one")
    await kit.call("page", "a", "remove")
    assert await texts(kit) == {1: "one", 2: None}
    assert (await failure(kit.call("page", "a", "_restore", version=2))).code == "conflict"
    assert (await kit.call("page", "a", "_restore", version=1))["version"] == 3
    assert await texts(kit) == {1: "one", 2: None, 3: "one"}

    await kit.call("page", "a", "remove")
    await kit.call("page", "a", "write", text="another")
    assert await texts(kit) == {5: "another"}
    assert (await failure(kit.call("page", "a", "_read_version", version=1))).code == "not-found"
    assert (await failure(kit.call("page", "b", "_versions"))).code == "not-found"


async def test_the_history_is_purged_with_the_tombstone(kit: ObjectKit) -> None:
    for number in range(100):
        await kit.call("page", "a", "write", text=f"{number}")
    await kit.call("page", "a", "remove")
    assert kit.store.versions["page", "a"]
    kit.clock.advance(Limits().records.tell_age + 1)
    await kit.runtime.housekeeping().purge()
    assert "a" not in kit.store.documents["page"]
    assert ("page", "a") not in kit.store.versions


async def test_forgetting_erases_all_versions_before(kit: ObjectKit) -> None:
    for number in range(100):
        await kit.call("page", "a", "write", text=f"{number}")
    await kit.settle()
    await kit.call("page", "a", "erase")
    assert await texts(kit) == {100: "99"}
    assert not kit.store.versions["page", "a"]
    await kit.call("page", "a", "erase", text="new")
    assert await texts(kit) == {101: "new"}
    assert list(kit.store.documents["page"]["a"]["history"]["entries"]) == ["101"]


async def test_versions_are_compared_as_json_patches(kit: ObjectKit) -> None:
    for text in ("one", "two"):
        await kit.call("page", "a", "write", text=text)
    change = {"op": "replace", "path": "/text", "value": "two"}
    compared = await kit.call("page", "a", "_compare_versions", before=1)
    assert compared == {"before": 1, "after": 2, "patch": [change]}
    compared = await kit.call("page", "a", "_compare_versions", before=2, after=1)
    assert compared["patch"] == [change | {"value": "one"}]


async def test_reentrant_queries_see_committed_versions(kit: ObjectKit) -> None:
    await kit.call("page", "a", "write", text="one", caller=ALICE)
    assert await kit.call("page", "a", "authors", headers={"Call-Chain": "page:a"}) == ["alice"]


async def test_an_age_bounds_the_history_but_the_newest_version_stays() -> None:
    class Diary(Page, type="diary", management="raw", history=(100, "60h")):
        pass

    async with ObjectKit(Diary) as kit:
        for text in ("one", "two", "three"):
            await kit.call("diary", "a", "write", text=text)
            kit.clock.advance(DAY)
        assert await texts(kit, type="diary") == {2: "two", 3: "three"}
        assert (await failure(kit.call("diary", "a", "_restore", version=1))).code == "not-found"
        kit.clock.advance(10 * DAY)
        assert await texts(kit, type="diary") == {3: "three"}


async def test_old_versions_are_upcast_and_unreadable_ones_are_refused(kit: ObjectKit) -> None:
    class BookState(msgspec.Struct):
        title: str = ""

    class Book(BaseDurableObject[BookState], type="page", schema_version=2, management="raw", history=10):
        @upcast(from_=1)
        @staticmethod
        def _rename(state: dict[str, Any]) -> dict[str, Any]:
            return {"title": 7 if state["text"] == "bad" else state["text"]}

    for text in ("good", "bad", "last"):
        await kit.call("page", "a", "write", text=text)
    async with ObjectKit(Book, store=kit.store) as newer:
        read = await newer.call("page", "a", "_read_version", version=1)
        assert (read["state"], read["schema_version"]) == ({"title": "good"}, 1)
        assert (await failure(newer.call("page", "a", "_read_version", version=2))).code == "conflict"
        assert (await newer.call("page", "a", "_restore", version=1))["state"] == {"title": "good"}


async def test_a_type_that_begins_to_keep_a_history_keeps_the_version_of_before(kit: ObjectKit) -> None:
    class Former(Page, type="page", management="raw"):
        pass

    async with ObjectKit(Former, store=kit.store) as former:
        await former.call("page", "a", "write", text="before")
        assert "history" not in kit.store.documents["page"]["a"]
        assert (await failure(former.call("page", "a", "_versions"))).code == "unknown-method"
    assert await texts(kit) == {1: "before"}
    await kit.call("page", "a", "write", text="after")
    assert [each["caller"] for each in await versions(kit)] == ["admin", ""]
    assert await texts(kit) == {1: "before", 2: "after"}


async def test_only_raw_types_show_states_of_versions() -> None:
    class Hidden(Page, type="hidden", history=5):
        pass

    class Fixed(Page, type="fixed", management="read_only", history=5):
        pass

    async with ObjectKit(Hidden, Fixed) as kit:
        for type in ("hidden", "fixed"):
            await kit.call(type, "a", "write", text="one")
            await kit.call(type, "a", "write", text="two")
            assert len(await versions(kit, type=type)) == 2
            for method, args in (("_read_version", {"version": 1}), ("_compare_versions", {"before": 1})):
                assert (await failure(kit.call(type, "a", method, **args))).code == "forbidden"
        assert (await kit.call("hidden", "a", "_restore", version=1))["state"] is None
        assert (await failure(kit.call("fixed", "a", "_restore", version=1))).code == "forbidden"


@pytest.mark.parametrize("option", [0, -1, 10_001, "soon", "100y", "0s", True, (1, 2), ("1d", 1), (1, "1d", "2d"), 1.5])
def test_a_history_that_can_t_be_meant_is_refused(option: Any) -> None:
    with pytest.raises(TypeError, match="Wrong"):

        class Wrong(BaseDurableObject[PageState], type="wrong", history=option):
            pass


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("burst"), st.integers(1, 5)),
        st.tuples(st.just("restore"), st.integers(1, 30)),
        st.tuples(st.just("remove"), st.just(0)),
        st.tuples(st.sampled_from(["fail", "lose", "crash"]), st.just(0)),
    ),
    max_size=25,
)


class Run:
    """Steps on one object, and what its history must be: the text of each version, None for a deletion."""

    def __init__(self, store: MemoryStore, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.texts: dict[int, str | None] = {}
        self.requests = 0

    async def take(self, steps: list[tuple[str, int]]) -> None:
        steps = steps.copy()
        while steps:
            async with ObjectKit(Page, store=self.store, clock=self.clock, permissions=["*"]) as kit:
                while steps:
                    name, number = steps.pop(0)
                    if name == "crash":
                        await crash(kit)
                        break
                    await self._step(kit, name, number)
                else:
                    await self.check(kit)

    async def _step(self, kit: ObjectKit, name: str, number: int) -> None:
        latest = max(self.texts, default=0)
        exists = self.texts.get(latest) is not None
        if name in ("fail", "lose"):
            self.store.faults.append(name)
        elif name == "burst":
            made = await asyncio.gather(*(self._write(kit) for _ in range(number)))
            self.texts = dict(self.texts if exists else {}) | dict(sorted(made))
        elif name == "remove" and exists:
            await self._repeat(kit, "remove", {})
            self.texts[latest + 1] = None
        elif name == "restore" and self.texts.get(number) is not None:
            restored = await self._repeat(kit, "_restore", {"version": number})
            assert restored["state"]["text"] == self.texts[number]
            assert restored["version"] in (latest, latest + 1)
            self.texts[restored["version"]] = self.texts[number]

    async def _write(self, kit: ObjectKit) -> tuple[int, str]:
        text = f"{self.requests} " * (self.requests % 3 * 40 + 1)
        return await self._repeat(kit, "write", {"text": text}), text

    async def _repeat(self, kit: ObjectKit, method: str, args: dict[str, Any]) -> Any:
        self.requests += 1
        id, payload = f"request {self.requests}", msgspec.json.encode(args)
        return msgspec.json.decode(await kit.request(f"do.page.a.{method}", payload, request_id=id))

    async def check(self, kit: ObjectKit) -> None:
        if self.texts:
            assert await texts(kit) == self.texts


@examples(100)
@given(steps=STEPS, in_document=st.integers(1, 4))
def test_a_history_is_what_callers_were_told_after_any_faults(steps: list[tuple[str, int]], in_document: int) -> None:
    async def run() -> None:
        tried = Run(MemoryStore(), ManualClock())
        await tried.take([*steps, ("crash", 0), ("burst", 1)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "IN_DOCUMENT", in_document)
        asyncio.run(run())
