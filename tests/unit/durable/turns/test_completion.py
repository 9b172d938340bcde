"""A repeat gets the recorded outcome and changes nothing, from any caller and at any time."""

from __future__ import annotations

import asyncio
from typing import Any

import bson
import pytest

from aidevos.contracts.errors import Failure
from aidevos.contracts.subjects import PARTITIONS
from aidevos.contracts.times import timestamp
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import Outcome, StoreError
from aidevos.durable.turns import archive, effects
from aidevos.durable.turns.completion import CHOSEN_IN_DOCUMENT, LARGE, Bounds, Client
from aidevos.durable.turns.environment import Limits
from aidevos.security.permissions import Principal
from aidevos.testing import ObjectKit
from tests.support.kits import begun, chosen, crash, failure, numbered, quiet, until
from tests.support.objects import Tally

ALICE, BOB = Principal("alice"), Principal("bob")
DAY = 86_400.0
MIB = 1024 * 1024
IDS = [chosen("mine"), numbered("a", 1)]


def replies(kit: ObjectKit, id: str = "a") -> dict[str, Any]:
    """Return an object's records from the store: numbers by client, and chosen keys."""
    stored = kit.store.documents["tally"][id].get("replies", {})
    clients = {key: list(Client.from_document(item).records) for key, item in stored.get("clients", {}).items()}
    return {"clients": clients, "chosen": list(stored.get("chosen", {}))}


@pytest.mark.parametrize("headers", IDS, ids=["chosen", "numbered"])
@pytest.mark.parametrize("after", ["at once", "after a crash"])
async def test_a_repeat_gets_the_recorded_result_or_error(kit: ObjectKit, headers: dict[str, str], after: str) -> None:
    error = numbered("b", 1) if "Request-Ack" in headers else chosen("error")
    assert await kit.call("tally", "a", "add", headers=headers) == 1
    refused = await failure(kit.call("tally", "a", "spoil", how="failure", headers=error))
    await kit.call("tally", "a", "add", by=10)
    if after == "after a crash":
        await crash(kit)
        kit = ObjectKit(Tally, store=kit.store)
    turns = Tally.turns
    assert await kit.call("tally", "a", "add", headers=headers) == 1
    again = await failure(kit.call("tally", "a", "spoil", how="failure", headers=error))
    assert again.problem == refused.problem
    assert Tally.turns == turns
    assert await kit.call("tally", "a", "value") == 11


async def test_a_failed_precondition_stays_failed_for_a_late_copy(kit: ObjectKit) -> None:
    headers = chosen("early", **{"If-Match": "*"})
    assert (await failure(kit.call("tally", "a", "add", headers=headers))).code == "precondition-failed"
    await kit.call("tally", "a", "add")
    assert (await failure(kit.call("tally", "a", "add", headers=headers))).code == "precondition-failed"
    assert await kit.call("tally", "a", "value") == 1


@pytest.mark.parametrize("headers", IDS, ids=["chosen", "numbered"])
async def test_an_id_that_was_used_for_another_request_is_refused(kit: ObjectKit, headers: dict[str, str]) -> None:
    await kit.call("tally", "a", "add", by=1, headers=headers)
    for method, args, more in (
        ("add", {"by": 2}, {}),
        ("add_loudly", {"by": 1}, {}),
        ("add", {"by": 1}, {"If-Match": "*"}),
    ):
        refused = await failure(kit.call("tally", "a", method, **args, headers=headers | more))
        assert (refused.code, refused.status, refused.field) == ("request-id-reused", 422, "Request-Id")
    assert await kit.call("tally", "a", "value") == 1


@pytest.mark.parametrize("headers", IDS, ids=["chosen", "numbered"])
async def test_a_caller_can_neither_read_nor_block_another_s_reply(kit: ObjectKit, headers: dict[str, str]) -> None:
    assert await kit.call("tally", "a", "add", by=5, caller=ALICE, headers=headers) == 5
    assert await kit.call("tally", "a", "add", by=5, caller=BOB, headers=headers) == 10
    assert await kit.call("tally", "a", "add", by=5, caller=ALICE, headers=headers) == 5


async def test_an_acknowledgement_drops_the_client_s_own_records_and_no_other_s(kit: ObjectKit) -> None:
    for caller, client in ((ALICE, "a"), (ALICE, "b"), (BOB, "a")):
        for count in (1, 2):
            await kit.call("tally", "a", "add", caller=caller, headers=numbered(client, count, 1))
    await kit.call("tally", "a", "add", caller=ALICE, headers=numbered("a", 3, 3))
    assert sorted(len(numbers) for numbers in replies(kit)["clients"].values()) == [1, 2, 2]
    assert await kit.call("tally", "a", "add", caller=BOB, headers=numbered("a", 1, 1)) == 5
    assert await kit.call("tally", "a", "add", caller=ALICE, headers=numbered("b", 2, 1)) == 4


@pytest.mark.parametrize("after", ["at once", "after a crash"])
async def test_a_late_copy_of_what_was_acknowledged_is_refused(kit: ObjectKit, after: str) -> None:
    await kit.call("tally", "a", "add", headers=numbered("a", 2, 2))
    await kit.call("tally", "a", "add", headers=numbered("a", 3, 3))
    if after == "after a crash":
        await crash(kit)
        kit = ObjectKit(Tally, store=kit.store)
    for count in (1, 2):
        refused = await failure(kit.call("tally", "a", "add", headers=numbered("a", count)))
        assert (refused.code, refused.status) == ("stale", 409)
    assert await kit.call("tally", "a", "value") == 2


async def test_a_number_that_was_issued_too_long_ago_is_refused(kit: ObjectKit) -> None:
    kit.clock.advance(DAY - 1)
    assert await kit.call("tally", "a", "add", headers=numbered("a", 1)) == 1
    kit.clock.advance(2)
    assert (await failure(kit.call("tally", "a", "add", headers=numbered("b", 1)))).code == "stale"


async def test_a_number_from_the_future_is_refused_unless_it_was_used_before_the_clock_went_back(
    kit: ObjectKit,
) -> None:
    used, unused = (numbered("a", count, 1, at=kit.clock.now()) for count in (1, 2))
    assert await kit.call("tally", "a", "add", headers=used) == 1
    kit.clock.advance(-3600)

    assert (await failure(kit.call("tally", "a", "add", headers=unused))).code == "unavailable"
    assert await kit.call("tally", "a", "add", headers=used) == 1


async def test_a_dead_client_s_records_and_mark_expire_and_its_late_copies_stay_refused(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", headers=numbered("a", 1))
    await kit.call("tally", "a", "add", headers=chosen("old"))
    now = kit.clock.now()
    kit.clock.advance(DAY - 10)
    await kit.call("tally", "a", "add", headers=numbered("b", 1, at=kit.clock.now()))
    assert len(replies(kit)["clients"]) == 2
    kit.clock.advance(700)
    await kit.call("tally", "a", "add", headers=numbered("b", 2, at=kit.clock.now()))
    assert len(replies(kit)["clients"]) == 1
    assert replies(kit)["chosen"] == []
    assert (await failure(kit.call("tally", "a", "add", headers=numbered("a", 1, at=now)))).code == "stale"


@pytest.mark.parametrize("where", ["memory", pytest.param("mongo", marks=pytest.mark.servers)])
async def test_chosen_ids_move_to_the_archive_and_are_still_found(where: str, request: pytest.FixtureRequest) -> None:
    store: Any = None
    if where == "mongo":
        store = MongoStore(request.getfixturevalue("servers").mongo_url, request.getfixturevalue("database"))
    count = CHOSEN_IN_DOCUMENT + 50
    async with ObjectKit(Tally, store=store) as kit:
        calls = [kit.call("tally", "a", "add", headers=chosen(f"id{number}")) for number in range(count)]
        assert await asyncio.gather(*calls) == list(range(1, count + 1))
        await until(lambda: not kit.runtime.tasks.running)
        await kit.settle()
        stored = (await kit.store.read("tally", ["a"]))["a"]
        assert stored.archived
        assert len(stored.replies["chosen"]) < CHOSEN_IN_DOCUMENT
        for first in (kit, ObjectKit(Tally, store=kit.store)):
            assert await first.call("tally", "a", "add", headers=chosen("id0")) == 1
            assert await first.call("tally", "a", "add", headers=chosen(f"id{count - 1}")) == count
            reused = await failure(first.call("tally", "a", "add", by=7, headers=chosen("id0")))
            assert reused.code == "request-id-reused"
            assert await first.call("tally", "a", "value") == count
    if where == "mongo":
        kit.store.close()


@pytest.mark.parametrize("where", ["memory", pytest.param("mongo", marks=pytest.mark.servers)])
async def test_clients_move_to_the_archive_and_their_records_and_marks_are_still_found(
    where: str, request: pytest.FixtureRequest
) -> None:
    store: Any = None
    if where == "mongo":
        store = MongoStore(request.getfixturevalue("servers").mongo_url, request.getfixturevalue("database"))
    limits = Limits(records=Bounds(clients=4))
    names = [f"{number:x}" for number in range(1, 13)]
    async with ObjectKit(Tally, store=store, limits=limits) as kit:
        for name in names:
            await kit.call("tally", "a", "add", headers=numbered(name, 1))
            await kit.call("tally", "a", "add", headers=numbered(name, 2, 2))
            await until(lambda: not kit.runtime.tasks.running)
        await kit.settle()
        stored = (await kit.store.read("tally", ["a"]))["a"]
        assert stored.archived
        assert len(stored.replies["clients"]) < len(names)
        async with ObjectKit(Tally, store=kit.store, limits=limits) as successor:
            for owner in (kit, successor):
                for count, name in enumerate(names, 1):
                    assert await owner.call("tally", "a", "add", headers=numbered(name, 2, 2)) == 2 * count
                    late = await failure(owner.call("tally", "a", "add", headers=numbered(name, 1)))
                    assert late.code == "stale"
            assert await successor.call("tally", "a", "value") == 2 * len(names)
    if where == "mongo":
        kit.store.close()


class MeasuringStore(MemoryStore):
    """A store that remembers the size of its largest document."""

    largest = 0

    async def commit(self, type: str, commits: Any) -> list[Outcome]:
        outcomes = await super().commit(type, commits)
        self.largest = max(self.largest, *(len(bson.encode(document)) for document in self.documents[type].values()))
        return outcomes


class DownBus(MemoryBus):
    """A bus that accepts no event."""

    async def publish(self, *args: Any, **options: Any) -> int:
        raise BusError("down on purpose")


async def test_a_document_stays_below_the_store_s_limit_and_no_result_is_lost() -> None:
    async def insist(bytes: int, headers: dict[str, str]) -> str:
        while True:
            try:
                result: str = await kit.call("tally", "a", "blob", bytes=bytes, headers=headers)
            except Failure as refused:
                assert refused.code == "overloaded"  # noqa: PT017
                await asyncio.sleep(0.001)
            else:
                return result

    store = MeasuringStore()
    async with ObjectKit(Tally, store=store, bus=DownBus()) as kit:
        await kit.call("tally", "a", "grow", bytes=MIB - 4096)
        await kit.call("tally", "a", "blob", bytes=0, emitted=2 * MIB - 4096)
        sizes = [int(2.95 * MIB), int(3.95 * MIB)]
        wanted = [(size, numbered("a", size)) for size in sizes] + [(size, chosen(str(size))) for size in sizes]
        results = await asyncio.gather(*(insist(size, headers) for size, headers in wanted))
        assert [len(result) for result in results] == [size for size, _ in wanted]
        assert 10 * MIB < store.largest < 16 * MIB
        turns = Tally.turns
        repeats = await asyncio.gather(*(insist(size, headers) for size, headers in wanted))
        assert (repeats, Tally.turns) == (results, turns)


async def test_a_turn_that_can_never_fit_the_document_is_refused_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "DOCUMENT_BYTES", MIB + MIB // 2)
    async with ObjectKit(Tally) as kit:
        refused = await failure(kit.call("tally", "a", "blob", bytes=MIB, headers=chosen("large")))
        assert refused.code == "too-large"
        assert await kit.call("tally", "a", "add", headers=chosen("small")) == 1


@pytest.mark.parametrize("bytes", [2 * LARGE, 7 * MIB // 2])
async def test_a_large_result_moves_to_the_archive_at_once_and_is_still_found(kit: ObjectKit, bytes: int) -> None:
    result = await kit.call("tally", "a", "blob", bytes=bytes, headers=numbered("a", 1))
    await until(lambda: not kit.runtime.tasks.running)
    await kit.settle()
    assert len(bson.encode(kit.store.documents["tally"]["a"])) < 4096

    assert await kit.call("tally", "a", "add", headers=numbered("b", 1)) == 1
    async with ObjectKit(Tally, store=kit.store) as successor:
        for owner in (kit, successor):
            assert await owner.call("tally", "a", "blob", bytes=bytes, headers=numbered("a", 1)) == result
            reused = await failure(owner.call("tally", "a", "blob", bytes=1, headers=numbered("a", 1)))
            assert reused.code == "request-id-reused"
        assert Tally.turns == 2
        assert await successor.call("tally", "a", "add", headers=numbered("a", 2, 2)) == 2
        late = await failure(successor.call("tally", "a", "blob", bytes=bytes, headers=numbered("a", 1)))
        assert late.code == "stale"


async def test_a_large_result_of_a_client_that_moved_too_is_found_or_known_to_be_gone() -> None:
    limits = Limits(records=Bounds(clients=1))
    async with ObjectKit(Tally, limits=limits) as kit:
        result = await kit.call("tally", "a", "blob", bytes=2 * LARGE, headers=numbered("a", 1))
        for name in "bcd":
            await kit.call("tally", "a", "add", headers=numbered(name, 1))
            await until(lambda: not kit.runtime.tasks.running)
        await kit.settle()
        assert len(replies(kit)["clients"]) == 1
        async with ObjectKit(Tally, store=kit.store, limits=limits) as successor:
            assert await successor.call("tally", "a", "blob", bytes=2 * LARGE, headers=numbered("a", 1)) == result
        (name,) = [name for name in kit.store._archive if name[2].startswith("results-")]
        del kit.store._archive[name]
        async with ObjectKit(Tally, store=kit.store, limits=limits) as successor:
            gone: Failure = await failure(
                successor.call("tally", "a", "blob", bytes=2 * LARGE, headers=numbered("a", 1))
            )
            assert gone.code == "stale"
        assert Tally.turns == 4


class DarkArchive(MemoryStore):
    """A store whose archive fails while `fails` is set, or answers only when `answers` is. It counts its claims."""

    fails = False
    claims = 0
    reads = 0

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    async def claim(self, type: str, claims: Any) -> Any:
        self.claims += len(claims)
        return await super().claim(type, claims)

    async def read_archived(self, type: str, keys: Any) -> Any:
        self.reads += 1
        await self.answers.wait()
        if self.fails:
            raise StoreError("the archive is dark")
        return await super().read_archived(type, keys)


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
async def test_while_the_archive_cannot_be_read_only_what_may_be_a_repeat_is_refused(
    hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LOOK_UP_WITHIN", 0.05)
    store = DarkArchive()
    async with ObjectKit(Tally, store=store) as kit:
        count = CHOSEN_IN_DOCUMENT + 50
        calls = [kit.call("tally", "a", "add", headers=chosen(f"id{number}")) for number in range(count)]
        await asyncio.gather(*calls)
        await until(lambda: kit.catalogue.get("tally", "a").records.archived)  # type: ignore[union-attr]
        await kit.settle()
        store.fails, claims = not hangs, store.claims
        if hangs:
            store.answers.clear()

        other = [await begun(kit.call("tally", "a", "add", headers=chosen(id))) for id in ("id0", "new")]
        known = await begun(kit.call("tally", "a", "add", headers=chosen(f"id{count - 1}")))
        unnamed = await begun(kit.call("tally", "a", "add"))

        assert [(await failure(call)).code for call in other] == ["unavailable"] * 2
        assert (await known, await unnamed) == (count, count + 1)
        assert (store.reads, store.claims) == (2 - hangs, claims)
        store.fails = False
        store.answers.set()
        assert await kit.call("tally", "a", "add", headers=chosen("id0")) == 1
        assert await kit.call("tally", "a", "add", headers=chosen("new")) == count + 2


async def test_a_number_from_the_future_is_refused(kit: ObjectKit) -> None:
    ahead = numbered("a", 1, at=kit.clock.now() + 61)
    assert (await failure(kit.call("tally", "a", "add", headers=ahead))).code == "unavailable"
    assert await kit.call("tally", "a", "add", headers=numbered("a", 1, at=kit.clock.now() + 59)) == 1


async def test_a_record_is_not_archived_before_its_commit(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    first, second = asyncio.Event(), asyncio.Event()
    kit.store.faults.extend([first, second])
    calls = [await begun(kit.call("tally", "a", "add", headers=chosen("id0")))]
    for number in range(1, CHOSEN_IN_DOCUMENT + 10):
        work = kit.call("tally", "a", "add", headers=chosen(f"id{number}"))
        calls.append(asyncio.get_running_loop().create_task(work))
    await quiet()
    first.set()
    await calls[0]
    await quiet()
    assert kit.store._archive == {}
    second.set()
    await asyncio.gather(*calls)
    await until(lambda: kit.store._archive)


async def test_a_record_on_a_tombstone_keeps_the_document_from_being_purged(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    await kit.call("tally", "a", "remove")
    kit.clock.advance(DAY)
    headers = chosen("late")
    refused = await failure(kit.call("tally", "a", "spoil", how="failure", headers=headers))
    assert refused.code == "conflict"
    assert await kit.store.purge("tally", range(PARTITIONS), timestamp(kit.clock.now() - 1)) == 0
    assert await kit.store.purge("tally", range(PARTITIONS), timestamp(kit.clock.now() + 1)) == 1


@pytest.mark.parametrize(
    ("bounds", "accepted", "refused"),
    [
        (Bounds(records=2), [numbered("a", 1), numbered("a", 2)], numbered("a", 3)),
        (Bounds(bytes=200), [numbered("a", 1), numbered("a", 2)], numbered("a", 3)),
        (Bounds(bytes=200), [chosen("x"), chosen("y"), chosen("z")], chosen("w")),
    ],
    ids=["one client's records", "numbered bytes", "chosen bytes"],
)
async def test_past_a_bound_an_object_is_overloaded_and_forgets_nothing(
    bounds: Bounds, accepted: list[dict[str, str]], refused: dict[str, str]
) -> None:
    async with ObjectKit(Tally, limits=Limits(records=bounds)) as kit:
        for headers in accepted:
            await kit.call("tally", "a", "add", headers=headers)
        overloaded = await failure(kit.call("tally", "a", "add", headers=refused))
        assert (overloaded.code, overloaded.status) == ("overloaded", 503)
        assert overloaded.retry_after is not None
        for count, headers in enumerate(accepted, 1):
            assert await kit.call("tally", "a", "add", headers=headers) == count


async def test_expired_records_make_room_after_the_clock_went_back() -> None:
    async with ObjectKit(Tally, limits=Limits(records=Bounds(bytes=200, age=100.0))) as kit:
        kit.clock.advance(3600.0)
        await kit.call("tally", "a", "add", headers=chosen("before"))
        kit.clock.advance(-3600.0)
        for key in ("x", "y"):
            await kit.call("tally", "a", "add", headers=chosen(key))
        assert (await failure(kit.call("tally", "a", "add", headers=chosen("z")))).code == "overloaded"
        kit.clock.advance(200.0)
        assert await kit.call("tally", "a", "add", headers=chosen("z")) == 4


async def test_an_acknowledgement_makes_room_for_the_request_that_brings_it() -> None:
    async with ObjectKit(Tally, limits=Limits(records=Bounds(records=2))) as kit:
        for count in range(1, 6):
            assert await kit.call("tally", "a", "add", headers=numbered("a", count, max(1, count - 1))) == count


@pytest.mark.parametrize(
    "headers",
    [
        {"Request-Id": ""},
        {"Request-Id": "x" * 257},
        {"Request-Id": "é"},
        {"Request-Id": f"{'a' * 32}.5", "Request-Ack": "five"},
        {"Request-Id": f"{'a' * 32}.{2**63}", "Request-Ack": "0"},
    ],
)
async def test_an_id_that_is_none_is_refused_with_its_header(kit: ObjectKit, headers: dict[str, str]) -> None:
    refused = await failure(kit.call("tally", "a", "add", headers=headers))
    assert (refused.code, refused.status) == ("bad-request", 400)
    assert refused.field in ("Request-Id", "Request-Ack")
    assert Tally.turns == 0
