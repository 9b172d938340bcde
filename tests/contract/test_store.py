"""The contract of stores: in memory and on MongoDB."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pymongo
import pytest

from aidevos.contracts.errors import Failure
from aidevos.durable.store import codec
from aidevos.durable.store.conditions import EVERYTHING, And, Compare, Condition, Contains, Text
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Claim, Commit, CommitPoint, Find, Outcome, StoreError
from tests.support.commits import NOW, change, claimed, founding, stored, tombstone
from tests.support.servers import Servers

LATER = datetime.now(UTC) + timedelta(days=1)
AWKWARD = {
    "$set": {"$inc": 1},
    "a.b": {"c.d.": [{"": {"$": 1}}]},
    "": "empty",
    "link": {"$ref": "people", "$id": 2**40, "$db": None},
    "links": [{"$id": 1, "$ref": "people", "note": {"$ref": "x", "$id": 1}}],
    "wide": [2**31, -(2**63), 2**63 - 1, 0.1, -0.0, None, True, "é\U0001f600"],
}


async def commit_in_partitions(store: Any, commits: dict[int, list[Commit]]) -> None:
    """Claim and commit objects, by partition."""
    for partition, made in commits.items():
        await claimed(store, *(commit.id for commit in made), partition=partition)
        assert set(await store.commit("thing", made)) == {Outcome.APPLIED}


async def test_a_claim_makes_a_missing_document_that_does_not_exist_as_an_object_yet(store: Any) -> None:
    documents = await claimed(store, "a", "b")
    assert set(documents) == {"a", "b"}
    assert documents["a"].owner == "one"
    assert (documents["a"].epoch, documents["a"].version, documents["a"].partition) == (1, 0, 7)
    assert documents["a"].commit is None
    assert not documents["a"].exists


async def test_a_second_claim_takes_a_document_over_as_it_is(store: Any) -> None:
    await claimed(store, "a")
    await store.commit("thing", [change("a", state={"value": 5}, version=3, schema=2)])
    document = (await claimed(store, "a", owner="two"))["a"]
    assert (document.owner, document.epoch, document.commit) == ("two", 2, "one.1")
    assert (document.state, document.version, document.schema) == ({"value": 5}, 3, 2)
    assert document.made_at == NOW
    assert document.exists


async def test_of_concurrent_claims_only_the_last_can_commit(store: Any) -> None:
    owners = [f"owner{number}" for number in range(8)]
    answers = await asyncio.gather(*(claimed(store, "a", owner=owner) for owner in owners))
    winners = [owner for owner, won in zip(owners, answers, strict=True) if won]
    last = await stored(store, "a")
    assert last is not None
    assert last.epoch == len(owners)
    assert last.owner in winners
    outcomes = [(await store.commit("thing", [change("a", last.turn, owner=owner)]))[0] for owner in owners]
    assert outcomes.count(Outcome.FENCED) == len(owners) - 1
    assert outcomes[owners.index(last.owner)] is Outcome.APPLIED


async def test_a_claim_that_is_taken_over_before_it_was_read_back_is_not_won(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(store, MemoryStore):
        return  # in memory, nothing can happen between claim and read
    read = store.read

    async def be_late_and_read(type: str, ids: Any) -> Any:
        monkeypatch.undo()
        await claimed(store, "a", owner="two")
        return await read(type, ids)

    monkeypatch.setattr(store, "read", be_late_and_read)
    assert list(await claimed(store, "a", "b")) == ["b"]


async def test_commits_of_the_owner_apply_one_behind_the_other(store: Any) -> None:
    await claimed(store, "a")
    outbox = codec.Encoded(codec.encode_document({"kind": "event", "payload": b"\0\xff"}))
    first = change("a", 1, state={"value": 1}, **{"outbox.7": outbox, "outbox.8": outbox})
    second = Commit("a", "one", 3, "one.2", {"version": 9}, ["outbox.7"], 200)
    assert await store.commit("thing", [first]) == [Outcome.APPLIED]
    assert await store.commit("thing", [second]) == [Outcome.APPLIED]
    document = await stored(store, "a")
    assert document is not None
    assert (document.commit, document.version, document.state) == ("one.2", 9, {"value": 1})
    assert document.outbox == {"8": {"kind": "event", "payload": b"\0\xff"}}


async def test_a_founding_commit_makes_the_document_as_a_claim_and_a_commit_do(store: Any) -> None:
    outbox = codec.Encoded(codec.encode_document({"kind": "event", "payload": b"1"}))
    values = {"version": 1, "updated_at": NOW, "outbox.7": outbox, "relay": True}
    assert await store.commit("thing", [founding("a", state={"value": 1}, **values)]) == [Outcome.APPLIED]
    await claimed(store, "b")
    await store.commit("thing", [change("b", state={"value": 1}, **values)])

    made, usual = await stored(store, "a"), await stored(store, "b")
    assert made is not None
    assert usual is not None
    assert made.exists
    # A claim is a turn too.
    assert msgspec.structs.replace(made, id="b", turn=2) == usual
    assert await store.commit("thing", [Commit("a", "one", 2, "one.2", {"version": 2}, [], 99)]) == [Outcome.APPLIED]


async def test_a_founding_commit_without_an_object_makes_a_tombstone(store: Any) -> None:
    commit = tombstone("a", 0, **{"replies.k": {"a": 1}})._replace(founding=7, unset=[])
    assert await store.commit("thing", [commit]) == [Outcome.APPLIED]

    document = await stored(store, "a")
    assert document is not None
    assert (document.exists, document.epoch, document.version) == (False, 1, 0)


@pytest.mark.parametrize("there", ["object", "tombstone", "claim"])
async def test_a_founding_commit_to_a_document_that_is_there_changes_nothing(store: Any, there: str) -> None:
    await claimed(store, "a")
    if there == "object":
        await store.commit("thing", [change("a", state={"value": 1})])
    if there == "tombstone":
        await store.commit("thing", [tombstone("a")])
    before = await stored(store, "a")

    commits = [founding("a", "two"), founding("b", "two"), founding("a", "three")]
    assert await store.commit("thing", commits) == [Outcome.EXISTS, Outcome.APPLIED, Outcome.EXISTS]
    assert await stored(store, "a") == before


async def test_of_concurrent_founding_commits_one_makes_the_document(store: Any) -> None:
    owners = [f"owner{number}" for number in range(8)]
    answers = await asyncio.gather(*(store.commit("thing", [founding("a", owner)]) for owner in owners))

    outcomes = [outcome for (outcome,) in answers]
    assert sorted(outcomes, key=str) == [Outcome.APPLIED, *[Outcome.EXISTS] * 7]
    document = await stored(store, "a")
    assert document is not None
    assert document.owner == owners[outcomes.index(Outcome.APPLIED)]


async def test_a_fenced_operation_fails_alone_in_its_batch(store: Any) -> None:
    await claimed(store, "a", "b", "c")
    batch = [change("a"), change("b", owner="old"), change("ghost"), change("c")]
    outcomes = await store.commit("thing", batch)
    assert outcomes == [Outcome.APPLIED, Outcome.FENCED, Outcome.FENCED, Outcome.APPLIED]
    assert [document.id for document in await store.list_page("thing", "", 9)] == ["a", "c"]


async def test_awkward_keys_and_wide_values_come_back_unharmed(store: Any) -> None:
    await claimed(store, "a")
    assert await store.commit("thing", [change("a", state=AWKWARD)]) == [Outcome.APPLIED]
    for found in (await claimed(store, "a"), await store.read("thing", ["a"])):
        assert found["a"].state == AWKWARD
        assert codec.encode(found["a"].state) == codec.encode(AWKWARD)
        assert {type(item) for item in found["a"].state["wide"]} == {int, float, type(None), bool, str}
    assert (await store.list_page("thing", "", 1))[0].state == AWKWARD


async def test_pages_show_existing_objects_in_the_order_of_their_ids(store: Any) -> None:
    await claimed(store, "a", "B", "c", "d", "claimed-only")
    await store.commit("thing", [change(id) for id in ("a", "B", "c", "d")])
    await store.commit("thing", [tombstone("c", 2)])
    assert [item.id for item in await store.list_page("thing", "", 2)] == ["B", "a"]
    assert [item.id for item in await store.list_page("thing", "a", 2)] == ["d"]
    assert [item.id for item in await store.list_page("thing", "b", 2)] == ["d"]
    assert await store.list_page("thing", "d", 2) == []


async def test_pages_of_a_moment_show_all_objects_as_they_were(store: Any) -> None:
    await claimed(store, *"abcd")
    alarms = {"tea": {"at": 1.0}}
    made = [change(id, state={"value": number}, alarms=alarms) for number, id in enumerate("abcd")]
    await store.commit("thing", made)
    first, moment = await store.read_moment("thing", EVERYTHING, "", 2, size=10_000)
    await store.commit("thing", [change("c", number=2, state={"value": 9}), tombstone("d", number=2)])

    rest, same = await store.read_moment("thing", EVERYTHING, "b", 10, size=10_000, moment=moment)
    later, _ = await store.read_moment("thing", EVERYTHING, "b", 10, size=10_000)

    assert [(each.id, each.state, each.alarms) for each in first + rest] == [
        (id, {"value": number}, alarms) for number, id in enumerate("abcd")
    ]
    assert same == moment
    assert [(each.id, each.state) for each in later] == [("c", {"value": 9})]


async def test_a_large_page_of_a_moment_is_read_to_its_end(store: Any) -> None:
    ids = [f"id{number:03}" for number in range(100)]
    await claimed(store, *ids)
    await store.commit("thing", [change(id, state={"value": id}) for id in ids])

    found, _ = await store.read_moment("thing", EVERYTHING, "", 90, size=1_000_000)

    assert [each.state for each in found] == [{"value": id} for id in ids[:90]]


async def test_a_page_of_a_moment_has_what_it_is_asked_for(store: Any) -> None:
    await claimed(store, *"abc")
    made = [change(id, state={"value": number}, project="p" if id == "b" else None) for number, id in enumerate("abc")]
    await store.commit("thing", made)

    async def ids(where: Any = EVERYTHING, project: str | None = None, size: int = 10_000) -> list[str]:
        return [each.id for each in (await store.read_moment("thing", where, "", 10, project, size=size))[0]]

    assert await ids(Compare(("value",), "gte", 1)) == ["b", "c"]
    assert (await ids(project="p"), await ids(project="")) == (["b"], ["a", "c"])
    assert await ids(size=1) == ["a"]


@pytest.mark.parametrize("moment", ["", "1", "a.b", "4294967295.1", "99999999999.1", "-1.1"])
async def test_a_moment_that_never_was_is_refused(store: Any, moment: str) -> None:
    with pytest.raises(Failure) as raised:
        await store.read_moment("thing", EVERYTHING, "", 1, size=1, moment=moment)

    assert (raised.value.code, raised.value.field) == ("invalid", "moment")


async def test_a_page_leaves_out_what_only_an_activation_needs(store: Any) -> None:
    await claimed(store, "a")
    record = {"replies.chosen.k": codec.Encoded(codec.encode_document({"p": b"secret"})), "outbox.1": {"kind": "tell"}}
    await store.commit("thing", [change("a", **record)])
    (shown,) = await store.list_page("thing", "", 1)
    assert (shown.replies, shown.outbox) == ({}, {})
    whole = await stored(store, "a")
    assert whole is not None
    assert whole.replies == {"chosen": {"k": {"p": b"secret"}}}


async def test_a_page_stops_at_its_size_and_can_leave_out_the_states(store: Any) -> None:
    await claimed(store, "a", "b", "c")
    await store.commit("thing", [change(id, state={"text": "x" * 5000}) for id in ("a", "b", "c")])
    assert [item.id for item in await store.list_page("thing", "", 3, size=9000)] == ["a", "b"]
    assert [item.id for item in await store.find("thing", Find(EVERYTHING, 3, size=9000))] == ["a", "b"]
    shown = await store.list_page("thing", "", 3, size=9000, with_state=False)
    assert [(item.id, item.state) for item in shown] == [("a", None), ("b", None), ("c", None)]


async def test_a_search_for_parts_finds_only_them(store: Any) -> None:
    await claimed(store, "a")
    await store.commit("thing", [change("a", version=3, state={"text": "x", "inner": {"kept": 1, "left": 2}})])
    (found,) = await store.find("thing", Find(EVERYTHING, 1, only=(("inner", "kept"),)))
    assert (found.id, found.state, found.version) == ("a", {"inner": {"kept": 1}}, 0)
    assert found.size > 0


async def test_objects_with_something_to_send_are_found_until_it_is_sent(store: Any) -> None:
    await claimed(store, "a", "b", "c")
    await store.commit("thing", [change("a", relay=True), change("b"), tombstone("c", relay=True)])
    assert sorted(await store.list_pending("thing", [7], "", 10)) == ["a", "c"]
    assert len(await store.list_pending("thing", [7], "", 1)) == 1
    await store.commit("thing", [Commit("a", "one", 3, "one.2", {}, ["relay"], 100)])
    assert await store.list_pending("thing", [7], "", 10) == ["c"]


async def test_objects_with_something_to_send_are_found_in_the_partitions_asked_for(store: Any) -> None:
    ids = [f"{number:03}" for number in range(0, 300, 3)]
    # Later partitions hold earlier IDs, and each partition holds several.
    at = {id: 4000 - int(id) // 12 * 100 for id in ids}
    grouped: dict[int, list[Commit]] = {}
    for id in ids:
        grouped.setdefault(at[id], []).append(change(id, relay=True))
    await commit_in_partitions(store, grouped)

    for asked_for in ([3900], {3900, 3800}, range(3700, 4001), range(4096), [], [5]):
        expected = [id for id in ids if at[id] in asked_for]
        assert await store.list_pending("thing", asked_for, "", 1000) == expected
        assert await store.list_pending("thing", asked_for, "050", 40) == [id for id in expected if id > "050"][:40]
        assert await store.list_pending("thing", asked_for, "", 3) == expected[:3]


async def test_outboxes_are_cleared_of_documents_that_are_as_they_were_left(store: Any) -> None:
    await claimed(store, "a", "b")
    sending = {"outbox.7": codec.Encoded(codec.encode({"kind": "event"})), "relay": True}
    await store.commit("thing", [change(id, owner="one", **sending) for id in "ab"])
    assert await store.clear_outboxes("thing", [CommitPoint("a", "one", "one.1"), CommitPoint("b", "one", "one.1")])
    assert await store.list_pending("thing", [7], "", 10) == []
    for document in ((await stored(store, "a")), (await stored(store, "b"))):
        assert document
        assert (document.outbox, document.commit, document.exists) == ({}, "one.1", True)


@pytest.mark.parametrize("change_of", ["commit", "owner", "nothing, it is gone"])
async def test_an_outbox_is_not_cleared_once_its_document_has_changed(store: Any, change_of: str) -> None:
    await claimed(store, "a", "b")
    sending = {"outbox.7": codec.Encoded(codec.encode({"kind": "event"})), "relay": True}
    await store.commit("thing", [change(id, **sending) for id in "ab"])
    place = CommitPoint("a" if change_of in ("commit", "owner") else "gone", "one", "one.1")
    if change_of == "commit":
        assert await store.commit("thing", [Commit("a", "one", 3, "one.2", {}, [], 100)]) == [Outcome.APPLIED]
    else:
        await claimed(store, "a", owner="two")
    assert not await store.clear_outboxes("thing", [place])
    assert await store.list_pending("thing", [7], "", 10) == ["a", "b"]
    assert (await stored(store, "a")).outbox.keys() == {"7"}  # type: ignore[union-attr]
    assert not await store.clear_outboxes("thing", [place, CommitPoint("b", "one", "one.1")])
    assert await store.list_pending("thing", [7], "", 10) == ["a"]


async def test_only_old_tombstones_with_nothing_to_send_are_purged(store: Any) -> None:
    await claimed(store, "kept", "sending", "young", "old")
    young = {"deleted": NOW + timedelta(seconds=2)}
    await store.commit(
        "thing", [change("kept"), tombstone("sending", relay=True), tombstone("young", **young), tombstone("old")]
    )
    assert await store.purge("thing", [7], NOW + timedelta(seconds=1)) == 1
    assert set(await store.read("thing", ["kept", "sending", "young", "old"])) == {"kept", "sending", "young"}


async def test_tombstones_are_purged_in_the_partitions_asked_for(store: Any) -> None:
    await commit_in_partitions(store, {number: [tombstone(f"t{number}")] for number in (0, 7, 64, 4095)})

    assert await store.purge("thing", [], LATER) == 0
    assert await store.purge("thing", [5, 64], LATER) == 1
    assert sorted(await store.read("thing", ["t0", "t7", "t64", "t4095"])) == ["t0", "t4095", "t7"]
    assert await store.purge("thing", range(4096), LATER) == 3
    assert await store.read("thing", ["t0", "t7", "t4095"]) == {}


async def test_a_tombstone_that_is_claimed_during_the_purge_stays(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(store, MemoryStore):
        return  # its purge can't be interrupted
    await claimed(store, "a")
    await store.commit("thing", [tombstone("a")])
    find = store._finder.find

    async def find_and_be_late(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        found = await find(*args, **options)
        await claimed(store, "a", owner="two")
        return found

    monkeypatch.setattr(store._finder, "find", find_and_be_late)
    assert await store.purge("thing", [7], LATER) == 0
    assert await stored(store, "a") is not None


async def test_an_archived_record_is_found_by_its_object_and_key_alone(store: Any) -> None:
    record = {"p": b"\0answer", "t": 1.5, "f": False}
    await store.archive("thing", "a", [("k1", record, LATER), ("k2", {"p": b""}, LATER)])
    await store.archive("thing", "a", [("k1", record, LATER)])
    found = await store.read_archived("thing", [("a", "k1"), ("a", "other"), ("b", "k1")])
    assert found == {("a", "k1"): record}


async def test_all_archived_records_of_one_object_can_be_forgotten(store: Any) -> None:
    keys = [("a", "k1"), ("a", "k2"), ("b", "k1"), ("aa", "k1")]
    for id, key in keys:
        await store.archive("thing", id, [(key, {"p": b""}, LATER)])
    await store.delete_archived("thing", "a")
    await store.delete_archived("thing", "missing")
    assert sorted(await store.read_archived("thing", keys)) == [("aa", "k1"), ("b", "k1")]


async def test_versions_outside_the_document_are_read_by_number_the_newest_first(store: Any) -> None:
    made = {number: {"t": 1.5, "d": b"\0%d" % number} for number in range(1, 301)}
    for id in ("a", "aa", "b"):
        await store.keep_versions("thing", id, [(number, made[number], None) for number in made], 0)
    await store.keep_versions("thing", "a", [(300, made[300], LATER)], 0)

    assert await store.read_versions("thing", "a", 7, 9, 500) == {number: made[number] for number in (7, 8, 9)}
    assert list(await store.read_versions("thing", "a", 1, 300, 2)) == [300, 299]
    assert await store.read_versions("thing", "a", 1, 299, 1, with_state=False) == {299: {"t": 1.5}}
    assert len(await store.read_versions("thing", "a", 1, 2**40, 500)) == 300
    assert await store.read_versions("thing", "missing", 1, 9, 9) == {}

    await store.keep_versions("thing", "a", [], 299)
    assert sorted(await store.read_versions("thing", "a", 0, 999, 999)) == [299, 300]
    assert len(await store.read_versions("thing", "aa", 0, 999, 999)) == 300


async def test_a_purge_removes_the_versions_of_its_tombstones(store: Any) -> None:
    await claimed(store, "a", "b", "kept")
    for id in ("a", "b", "kept"):
        await store.keep_versions("thing", id, [(number, {"t": 1.5}, None) for number in (1, 2)], 0)
    gone = {"version": 2, "history.first": 1}
    await store.commit("thing", [tombstone("a", **gone), tombstone("b", **gone), change("kept", **gone)])

    assert await store.purge("thing", [7], LATER) == 2
    found = {id: await store.read_versions("thing", id, 0, 9, 9) for id in ("a", "b", "kept")}
    assert [len(found[id]) for id in ("a", "b", "kept")] == [0, 0, 2]


async def test_a_store_that_is_down_says_so_and_knows_no_outcome(store: Any, request: pytest.FixtureRequest) -> None:
    await claimed(store, "a")
    if isinstance(store, MemoryStore):
        store.down = True
    else:
        servers: Servers = request.getfixturevalue("servers")
        servers.mongo.kill()
    calls = [
        store.claim("thing", [Claim("a", "two", 7)]),
        store.read("thing", ["a"]),
        store.list_page("thing", "", 1),
        store.find("thing", asked()),
        store.count("thing", EVERYTHING),
        store.list_pending("thing", [7], "", 1),
        store.purge("thing", [7], LATER),
        store.archive("thing", "a", [("k", {}, LATER)]),
        store.read_archived("thing", [("a", "k")]),
        store.delete_archived("thing", "a"),
        store.keep_versions("thing", "a", [(1, {}, None)], 0),
        store.read_versions("thing", "a", 0, 1, 1),
        store.ping(),
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError] * len(calls)
    assert await store.commit("thing", [change("a"), change("b")]) == [Outcome.UNKNOWN] * 2


PEOPLE = {
    "a": {"name": "Ada", "mail": "ada@example.org", "roles": ["admin", "user"], "born": 1815.5},
    "b": {"name": "Bob", "mail": None, "roles": ["user"], "born": 1900.25},
    "c": {"name": "adam", "mail": "c.c@example.org", "roles": [], "born": 1815.5},
    "d": {"name": "Ärzte", "mail": "d@example.org", "roles": ["user"], "born": 2000.0},
}


def asked(where: Condition = EVERYTHING, order: str = "born", **changes: Any) -> Find:
    return Find(where, 10, (order,))._replace(**changes)


def born(operator: Any, value: float) -> Compare:
    return Compare(("born",), operator, value)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (asked(), "acbd"),
        (asked(descending=True), "dbca"),
        (asked(order="name"), "abcd"),
        (asked()._replace(order=None), "abcd"),
        (asked()._replace(order=None, after=(None, "b")), "cd"),
        (asked()._replace(order=None, after=(None, "b"), descending=True), "a"),
        (asked(limit=2), "ac"),
        (asked(after=(1815.5, "a")), "cbd"),
        (asked(after=(1815.5, "c"), descending=True), "a"),
        (asked(Compare(("name",), "eq", "bob")), ""),
        (asked(And((Contains(("roles",), "user"), Compare(("name",), "eq", "Bob")))), "b"),
        (asked(And((born("gte", 1815.5), born("lt", 1900.25)))), "ac"),
        (asked(born("gt", 1815.5), descending=True), "db"),
        (asked(Text((("name",), ("mail",)), "ADA")), "ac"),
        (asked(Text((("name",), ("mail",)), "äRZ")), "d"),
        (asked(Text((("name",), ("mail",)), "c.c")), "c"),
        (asked(Text((("name",), ("mail",)), "a.a")), ""),
        (asked(Text((("name",),), ".*")), ""),
        (asked(Text((), "a")), ""),
    ],
)
async def test_objects_are_found_by_their_states_in_the_order_asked_for(store: Any, wanted: Find, found: str) -> None:
    await claimed(store, *PEOPLE, "gone")
    await store.commit("thing", [change(id, state=state) for id, state in PEOPLE.items()])

    documents = await store.find("thing", wanted)

    assert "".join(document.id for document in documents) == found
    assert all(document.state == PEOPLE[document.id] for document in documents)
    if wanted.after is None and wanted.limit == 10:
        assert await store.count("thing", wanted.where) == len(found)


async def test_a_search_past_its_time_limit_says_what_to_do(store: Any, request: pytest.FixtureRequest) -> None:
    if isinstance(store, MemoryStore):
        store.slow = True
    else:
        always = {"configureFailPoint": "maxTimeAlwaysTimeOut", "mode": "alwaysOn"}
        request.addfinalizer(lambda: set_fail_point(request, always | {"mode": "off"}))
        set_fail_point(request, always)
    for search in (store.find("thing", asked(within=50)), store.count("thing", EVERYTHING, 50)):
        with pytest.raises(Failure, match=r"50 ms.*declare an index") as refused:
            await search
        assert (refused.value.code, refused.value.status) == ("too-slow", 422)


def set_fail_point(request: pytest.FixtureRequest, command: dict[str, Any]) -> None:
    with pymongo.MongoClient[dict[str, Any]](request.getfixturevalue("servers").mongo_url) as client:
        client.admin.command(command)


async def test_objects_are_found_by_their_earliest_alarm(store: Any) -> None:
    await claimed(store, *"abcdef")
    times = {"a": 300.5, "b": 100.25, "c": 200.0, "d": 400.0}
    alarm = codec.Encoded(codec.encode_document({"at": 1.0, "payload": b"null"}))
    await store.commit("thing", [change(id, alarm_at=at, **{"alarms.x": alarm}) for id, at in times.items()])
    await store.commit("thing", [change("e"), tombstone("f")])

    everything = [("b", 100.25), ("c", 200.0), ("a", 300.5), ("d", 400.0)]
    assert await store.list_due("thing", [7], -math.inf, math.inf, 10) == everything
    assert await store.list_due("thing", [7], 100.25, 300.5, 10) == everything[1:3]
    assert await store.list_due("thing", [7], -math.inf, math.inf, 2) == everything[:2]


async def test_alarms_are_found_in_the_partitions_asked_for_sorted_by_time(store: Any) -> None:
    # Later partitions hold earlier alarms, and each partition holds several.
    times = {f"{number}": 1000.0 - number for number in range(0, 300, 3)}
    at = {id: int(id) // 12 * 100 for id in times}
    grouped: dict[int, list[Commit]] = {}
    for id in times:
        grouped.setdefault(at[id], []).append(change(id, alarm_at=times[id]))
    await commit_in_partitions(store, grouped)

    for asked_for in ([300], {300, 400}, range(1100), range(4096), [], [99]):
        expected = sorted(((id, times[id]) for id in times if at[id] in asked_for), key=lambda found: found[1])
        assert await store.list_due("thing", asked_for, -math.inf, math.inf, 1000) == expected
        assert await store.list_due("thing", asked_for, -math.inf, math.inf, 3) == expected[:3]
        some = [found for found in expected if 800.0 < found[1] <= 964.0]
        assert await store.list_due("thing", asked_for, 800.0, 964.0, 40) == some[:40]


async def test_alarms_change_with_a_commit_and_are_shown_to_an_activation_alone(store: Any) -> None:
    await claimed(store, "a")
    alarm = codec.Encoded(codec.encode_document({"at": 1.5, "payload": b"\0\xff"}))
    await store.commit("thing", [change("a", alarm_at=1.5, **{"alarms.x": alarm, "alarms.0": alarm})])
    shown = [*await store.list_page("thing", "", 9), *await store.find("thing", Find(EVERYTHING, 9))]
    assert [document.alarms for document in shown] == [{}, {}]

    gone = Commit("a", "one", 3, "one.2", {"version": 2}, ["alarms.x", "alarm_at"], 200)
    assert await store.commit("thing", [gone]) == [Outcome.APPLIED]

    document = await stored(store, "a")
    assert document is not None
    assert document.alarms == {"0": {"at": 1.5, "payload": b"\0\xff"}}
    assert document.alarm_at is None
    assert await store.list_due("thing", [7], -math.inf, math.inf, 10) == []
