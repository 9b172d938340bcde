"""The fence of stores: a commit changes only the document that its owner has seen, whatever arrives late or twice."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest

from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Claim, Commit, Outcome
from tests.support.commits import change, claimed, founding, stored, tombstone
from tests.support.servers import Servers

LATER = datetime.now(UTC) + timedelta(days=1)


async def commit_one(store: Any, commit: Commit) -> Outcome:
    (outcome,) = await store.commit("thing", [commit])
    return Outcome(outcome)


@pytest.mark.parametrize(
    "stale",
    [change("a", 3, owner="old"), change("a", 1), change("a", 2), change("a", 4), change("a", 0)],
    ids=["another owner's", "late", "repeated", "early", "before the claim"],
)
async def test_a_commit_that_is_not_the_owner_s_next_is_fenced_and_changes_nothing(store: Any, stale: Commit) -> None:
    await claimed(store, "a")
    assert await store.commit("thing", [change("a", 1)]) == [Outcome.APPLIED]
    assert await store.commit("thing", [change("a", 2, state={"value": 1})]) == [Outcome.APPLIED]
    before = await stored(store, "a")

    assert await commit_one(store, stale) is Outcome.FENCED

    assert await stored(store, "a") == before
    assert await commit_one(store, change("a", 3)) is Outcome.APPLIED


async def test_a_commit_to_a_document_that_never_was_inserts_nothing(store: Any) -> None:
    assert await commit_one(store, change("ghost")) is Outcome.FENCED
    assert await commit_one(store, change("ghost", 0)) is Outcome.FENCED
    assert await stored(store, "ghost") is None


async def test_a_commit_to_a_purged_document_brings_nothing_back(store: Any) -> None:
    await claimed(store, "a")
    await store.commit("thing", [tombstone("a")])
    assert await store.purge("thing", [7], LATER) == 1
    assert await commit_one(store, change("a", 2)) is Outcome.FENCED
    assert await stored(store, "a") is None


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("again", ["claimed", "founded"])
async def test_late_commits_leave_a_document_alone_that_was_made_again_after_a_purge(
    store: Any, again: str, number: int
) -> None:
    await claimed(store, "a")
    await store.commit("thing", [tombstone("a")])
    assert await store.purge("thing", [7], LATER) == 1
    if again == "claimed":
        await claimed(store, "a", owner="two")
    else:
        assert await commit_one(store, founding("a", "two")) is Outcome.APPLIED
    before = await stored(store, "a")

    assert await commit_one(store, change("a", number)) is Outcome.FENCED

    assert await stored(store, "a") == before


async def test_a_claim_that_arrives_again_fences_its_owner_s_next_commit(store: Any) -> None:
    await claimed(store, "a")
    assert await commit_one(store, change("a", 1, state={"value": 1})) is Outcome.APPLIED

    await claimed(store, "a")

    for number in (0, 1, 2):
        assert await commit_one(store, change("a", number)) is Outcome.FENCED
    document = (await claimed(store, "a", owner="two"))["a"]
    assert document.state == {"value": 1}


async def test_a_claim_that_arrives_after_a_newer_one_lets_no_old_commit_through(store: Any) -> None:
    await claimed(store, "a")
    assert await commit_one(store, change("a", 1)) is Outcome.APPLIED
    turn = (await claimed(store, "a", owner="two"))["a"].turn
    assert await commit_one(store, change("a", turn, owner="two", state={"value": 2})) is Outcome.APPLIED

    await claimed(store, "a")

    # The first owner had sent its second commit before it was taken over, and could not send another one.
    for number in (0, 1, 2):
        assert await commit_one(store, change("a", number)) is Outcome.FENCED
    assert await commit_one(store, change("a", turn + 1, owner="two")) is Outcome.FENCED
    document = await stored(store, "a")
    assert document is not None
    assert document.state == {"value": 2}


@pytest.mark.parametrize("owner", ["one", "two"])
async def test_a_founding_commit_that_arrives_again_changes_nothing(store: Any, owner: str) -> None:
    assert await commit_one(store, founding("a")) is Outcome.APPLIED
    assert await commit_one(store, founding("a", owner)) is Outcome.EXISTS
    assert await commit_one(store, change("a", 1, state={"value": 1})) is Outcome.APPLIED
    before = await stored(store, "a")

    assert await commit_one(store, founding("a", owner)) is Outcome.EXISTS

    assert await stored(store, "a") == before


@pytest.fixture
def former(store: Any, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Put a document into the store as the version before the fence wrote it."""
    document = {"owner": "old.1", "epoch": 3, "commit": "old.1.9", "version": 5, "partition": 7}
    document |= {"created_at": LATER, "state": {"value": 7}, "outbox": {}, "replies": {}}
    if isinstance(store, MemoryStore):
        store.documents["thing"]["a"] = dict(document)
        return document
    servers: Servers = request.getfixturevalue("servers")
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        database = client[request.getfixturevalue("database")]
        database.command("collMod", "obj_thing", validator={"created_at": {"$exists": True}})
        database.obj_thing.insert_one(document | {"_id": "a"})
    return document


async def test_a_document_of_the_former_version_is_migrated_by_its_next_claim(
    store: Any, former: dict[str, Any]
) -> None:
    await store.open("thing")

    for number in (1, 2):
        assert await commit_one(store, change("a", number, owner="old.1")) is Outcome.FENCED
    assert await commit_one(store, founding("a", "two")) is Outcome.EXISTS
    document = (await claimed(store, "a"))["a"]

    assert (document.commit, document.version, document.state) == ("old.1.9", 5, former["state"])
    assert (document.epoch, document.turn) == (4, 1)
    assert await commit_one(store, change("a", 1, state={"value": 8})) is Outcome.APPLIED


@pytest.mark.servers
@pytest.mark.parametrize("store", ["mongo"], indirect=True)
async def test_both_stores_judge_the_same_writes_alike(store: Any) -> None:
    rng, model = random.Random(7), MemoryStore()
    await model.open("thing")
    turns: dict[tuple[str, str], int] = {}
    outcomes: list[Outcome] = []

    for number in range(400):
        id, owner = rng.choice("ab"), rng.choice(("one", "two", "three"))
        kind = rng.choices(("claim", "commit", "founding", "delete", "purge"), (3, 12, 2, 2, 1))[0]
        if kind == "claim":
            won = [await each.claim("thing", [Claim(id, owner, 7)]) for each in (store, model)]
            turns[id, owner] = won[0][id].turn
            assert won[0][id].turn == won[1][id].turn
        elif kind == "purge":
            assert await store.purge("thing", [7], LATER) == await model.purge("thing", [7], LATER)
        else:
            expected = turns.get((id, owner), 0) + rng.choices((1, 0, 2), (8, 1, 1))[0]
            commit = tombstone(id) if kind == "delete" else change(id, version=number)
            commit = commit._replace(owner=owner, commit=f"{number}", expected=expected)
            if kind == "founding":
                commit = founding(id, owner, version=number)._replace(commit=f"{number}")
            judged = await commit_one(store, commit)
            assert judged is await commit_one(model, commit)
            outcomes.append(judged)
            if judged is Outcome.APPLIED:
                turns[id, owner] = commit.expected
        for each in "ab":
            found, modelled = await stored(store, each), await stored(model, each)
            assert (found and (found.owner, found.turn, found.commit, found.version)) == (
                modelled and (modelled.owner, modelled.turn, modelled.commit, modelled.version)
            )
    assert {*outcomes} == {Outcome.APPLIED, Outcome.FENCED, Outcome.EXISTS}
