"""The fence on MongoDB: set, compared and tried whenever a type is opened, and cheap for the server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from pymongo.errors import BulkWriteError
from pymongo.monitoring import CommandListener, CommandStartedEvent

from aidevos import Service
from aidevos.durable.store import mongo_fence
from aidevos.durable.store.mongo import MongoStore, collections_of
from aidevos.durable.store.mongo_fence import ACCEPTED, OPTIONS, read_outcomes
from aidevos.durable.store.port import Outcome, Unfenced
from aidevos.process.fleet import with_credentials
from aidevos.process.mongo_users import ACTIONS
from aidevos.process.serving import serve
from aidevos.settings import SettingsError
from services.objects.counter import Counter
from tests.support.commits import change, claimed, founding
from tests.support.servers import Servers

OLD = datetime(2020, 1, 1, tzinfo=UTC)
FORMER: dict[str, Any] = {"created_at": {"$exists": True}}
NAMES = collections_of("thing")
same_owner, next_turn, exists = ACCEPTED["$expr"]["$and"]


class Recorder(CommandListener):
    """The commands that the driver sent, by name."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append((event.command_name, event.command))

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...


@pytest.fixture
def collections(servers: Servers, database: str) -> Iterator[Any]:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        yield client[database]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def store(servers: Servers, database: str, recorder: Recorder) -> Iterator[MongoStore]:
    store = MongoStore(servers.mongo_url_of("objects", database, ["thing"]), database, listeners=[recorder])
    yield store
    store.close()


def options_of(collections: Any) -> dict[str, Any]:
    (found,) = collections.list_collections(filter={"name": "obj_thing"})
    options: dict[str, Any] = found["options"]
    return options


@pytest.mark.parametrize(
    "former",
    [
        {"validator": FORMER},
        {},
        {"validator": ACCEPTED, "validationLevel": "moderate"},
        {"validator": ACCEPTED, "validationAction": "warn"},
        {"validator": {"$expr": {"$and": [same_owner, exists]}}},
    ],
    ids=["former", "none", "level", "action", "turns"],
)
async def test_a_collection_without_the_whole_fence_gets_it_when_its_type_is_opened(
    store: MongoStore, recorder: Recorder, collections: Any, former: dict[str, Any]
) -> None:
    collections.create_collection("obj_thing", **former)

    await store.open("thing")

    assert options_of(collections) == OPTIONS
    assert "collMod" in [name for name, _ in recorder.sent]


async def test_a_collection_with_the_fence_is_left_as_it_is(
    store: MongoStore, recorder: Recorder, collections: Any
) -> None:
    await store.open("thing")
    await store.open("thing")

    assert options_of(collections) == OPTIONS
    assert "collMod" not in [name for name, _ in recorder.sent]
    assert collections.obj_thing.count_documents({}) == 0


async def test_a_user_who_may_not_see_the_options_sets_the_fence_anyway(
    servers: Servers, database: str, collections: Any
) -> None:
    collections.create_collection("obj_thing", validator=FORMER)
    blind = f"blind_{database}"
    privileges = [{"resource": {"db": database, "collection": name}, "actions": [*ACTIONS]} for name in NAMES]
    collections.client.admin.command("createRole", blind, privileges=privileges, roles=[])
    collections.client.admin.command("createUser", blind, pwd="password", roles=[blind])
    store = MongoStore(with_credentials(servers.mongo_url, blind, "password"), database)

    await store.open("thing")

    assert options_of(collections) == OPTIONS
    store.close()


@pytest.mark.parametrize(
    "accepted",
    [{}, FORMER, {"$expr": {"$and": [same_owner, exists]}}, {"$expr": {"$and": [next_turn, exists]}}],
    ids=["everything", "former", "any turn", "any owner"],
)
async def test_a_store_whose_validator_does_not_work_is_refused(
    store: MongoStore, collections: Any, monkeypatch: pytest.MonkeyPatch, accepted: dict[str, Any]
) -> None:
    monkeypatch.setitem(mongo_fence.OPTIONS, "validator", accepted)

    with pytest.raises(Unfenced, match="obj_thing takes commits of former owners"):
        await store.open("thing")

    assert collections.obj_thing.count_documents({}) == 0


async def test_a_host_refuses_to_serve_a_type_whose_validator_does_not_work(
    servers: Servers, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mongo_fence.OPTIONS, "validator", {})
    settings = servers.settings(mongo_database=database, event_bus_url="")

    with pytest.raises(SettingsError, match=r"AIDEVOS_MONGO_URL: .* takes commits of former owners"):
        await serve(Service("objects", types=[Counter]), settings, reports_health=False)


async def test_commits_are_never_repeated_by_the_driver_and_claims_are(store: MongoStore, recorder: Recorder) -> None:
    await store.open("thing")
    recorder.sent.clear()

    await claimed(store, "a")
    await store.commit("thing", [change("a"), founding("b")])

    claim, commit = (command for name, command in recorder.sent if name == "update")
    assert "txnNumber" in claim
    assert "txnNumber" not in commit
    assert all(set(update["q"]) == {"_id"} for update in commit["updates"])


def test_the_writes_of_a_host_before_the_fence_are_refused_one_by_one(store: MongoStore, collections: Any) -> None:
    collections.create_collection("obj_thing", **OPTIONS)
    documents = collections.obj_thing
    migrated = {"created_at": OLD, "owner": "new.1", "by": "new.1", "turn": 4, "expected": 4, "commit": "new.1.4"}
    former = {"created_at": OLD, "owner": "old.1", "commit": "old.1.9"}
    documents.insert_one(migrated | {"_id": "migrated"})
    documents.insert_one(former | {"_id": "former"}, bypass_document_validation=True)
    before = list(documents.find())
    writes = [
        pymongo.UpdateOne({"_id": "migrated"}, {"$inc": {"epoch": 1}, "$set": {"owner": "old.2"}}, upsert=True),
        pymongo.UpdateOne(former | {"_id": "former"}, {"$set": {"commit": "old.1.10"}}, upsert=True),
        pymongo.UpdateOne(
            {"_id": "new", "owner": "old.1", "commit": None},
            {"$set": {"commit": "old.1.1"}, "$setOnInsert": {"created_at": OLD}},
            upsert=True,
        ),
    ]

    with pytest.raises(BulkWriteError) as refused:
        documents.bulk_write(writes, ordered=False)

    errors = [(error["index"], error["code"]) for error in refused.value.details["writeErrors"]]
    assert errors == [(0, 121), (1, 121), (2, 121)]
    assert list(documents.find()) == before


@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        ({"n": 3}, "applied applied applied"),
        ({"n": 2}, "unknown unknown unknown"),
        ({"n": 3, "writeConcernError": {"code": 64}}, "unknown unknown unknown"),
        ({"n": 1, "writeErrors": [{"index": 0, "code": 121}, {"index": 2, "code": 121}]}, "fenced applied exists"),
        ({"n": 1, "writeErrors": [{"index": 0, "code": 121}]}, "fenced unknown unknown"),
        (
            {
                "n": 1,
                "writeErrors": [
                    {"index": 1, "code": 11000, "keyPattern": {"_id": 1}},
                    {"index": 2, "code": 11000, "keyPattern": {"_id": 1}},
                ],
            },
            "applied fenced exists",
        ),
        (
            {
                "n": 1,
                "writeErrors": [{"index": 1, "code": 11000, "keyPattern": {"state.x": 1}}, {"index": 2, "code": 112}],
            },
            "applied unknown unknown",
        ),
        (
            {"n": 2, "writeErrors": [{"index": 1, "code": 121}], "writeConcernError": {"code": 64}},
            "unknown fenced unknown",
        ),
    ],
)
def test_an_outcome_is_known_only_if_the_answer_says_so(answer: dict[str, Any], outcomes: str) -> None:
    commits = [change("a"), change("b"), founding("c")]
    assert read_outcomes(commits, answer) == [Outcome(name) for name in outcomes.split()]
