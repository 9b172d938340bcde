"""The fence: a validator of the collection refuses every commit that isn't the next one of the document's owner.

Promise: a commit changes only the very document that its owner has seen, and inserts nothing.

`turn` counts the claims and commits of a document. A claim writes `owner` and `by`, removes `expected`, and reads
`turn` back. A commit writes `by` and the `expected` value of `turn` after it. MongoDB validates the document as it
would be, and refuses it with code 121, at its index in the batch, if

- `by` is not `owner`: another owner has claimed the document since, or the document is another one after a purge;
- `turn` is not `expected`: the commit is late or repeated, or something was written since its owner looked;
- `created_at` is missing: there was no document, so the upsert would insert one.

A commit that creates its document sets `owner` and `created_at` on insert only, so it is refused in the same way where
there is a document. A claim that arrives again makes the owner's next commit fail, and never lets an old one through,
because `turn` never goes back.

The filter of a commit is `_id` alone. MongoDB then takes a fast path that costs half as much as a filter by owner and
commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.errors import OperationFailure

from aidevos.durable.store.port import Claim, Commit, Outcome

UNAUTHORIZED = 13
NAMESPACE_EXISTS = 48
VALIDATION_FAILED = 121
DUPLICATE_KEY = 11000
INDEX_IN_PROGRESS = 12587
ACCEPTED: dict[str, Any] = {
    "$expr": {
        "$and": [
            {"$eq": ["$owner", "$by"]},
            {"$or": [{"$eq": ["$turn", "$expected"]}, {"$eq": [{"$type": "$expected"}, "missing"]}]},
            {"$gt": ["$created_at", None]},
        ]
    }
}
# The options of a collection of objects, as MongoDB shows them.
OPTIONS: dict[str, Any] = {"validator": ACCEPTED, "validationLevel": "strict", "validationAction": "error"}


async def ensure_fence(database: Any, name: str) -> None:
    """Create a collection of objects with its validator, or give the validator to an existing one."""
    try:
        await database.create_collection(name, check_exists=False, **OPTIONS)
        return
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
    if await _read_options(database, name) != OPTIONS:
        try:
            await database.command("collMod", name, **OPTIONS)
        except OperationFailure as error:
            # Another host may have set them meanwhile, and build indexes now.
            if error.code != INDEX_IN_PROGRESS or await _read_options(database, name) != OPTIONS:
                raise


async def _read_options(database: Any, name: str) -> dict[str, Any]:
    """Return the options of a collection, or none if this user may not read them."""
    try:
        found = await database.command("listCollections", filter={"name": name})
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        return {}
    (collection,) = found["cursor"]["firstBatch"]
    options: dict[str, Any] = collection["options"]
    return options


def stale_commits(id: str, turn: int) -> list[Commit]:
    """Return commits that the fence must refuse, for a document at `turn` whose owner is its own ID."""
    return [
        Commit(id, f"another than {id}", turn + 1, "of another owner", {}, (), 0),
        Commit(id, id, turn, "repeated", {}, (), 0),
        Commit(id, id, turn, "creating", {}, (), 0, founding=0),
        Commit(f"not {id}", id, 1, "without a document", {}, (), 0),
    ]


def build_claim(claim: Claim, now: datetime) -> dict[str, Any]:
    """Return the update of a claim, which creates a missing document."""
    return {
        "$inc": {"epoch": 1, "turn": 1},
        "$set": {"owner": claim.owner, "by": claim.owner},
        "$unset": {"expected": ""},
        "$setOnInsert": _new_fields(now, claim.partition),
    }


def build_commit(commit: Commit, now: datetime) -> dict[str, Any]:
    """Return the statement of a commit in an `update` command."""
    update: dict[str, Any] = {
        "$set": commit.set | {"commit": commit.commit, "by": commit.owner, "expected": commit.expected},
        "$inc": {"turn": 1},
    }
    if commit.founding is not None:
        named = {*commit.set, *commit.unset}
        created = _new_fields(now, commit.founding) | {"epoch": 1, "owner": commit.owner}
        update["$setOnInsert"] = {name: created[name] for name in created if name not in named}
    elif commit.unset:
        update["$unset"] = dict.fromkeys(commit.unset, "")
    return {"q": {"_id": commit.id}, "u": update, "upsert": True}


def read_outcomes(commits: Sequence[Commit], answer: Mapping[str, Any]) -> list[Outcome]:
    """Return the outcomes of an unordered `update` command by its answer.

    A commit without an error of its own was applied only if the server counts all of them and confirms that they are
    durable.
    """
    errors = answer.get("writeErrors", ())
    confirmed = "writeConcernError" not in answer and answer["n"] + len(errors) == len(commits)
    outcomes = [Outcome.APPLIED if confirmed else Outcome.UNKNOWN] * len(commits)
    for error in errors:
        index = error["index"]
        refused = Outcome.FENCED if commits[index].founding is None else Outcome.EXISTS
        outcomes[index] = refused if _is_refusal(error) else Outcome.UNKNOWN
    return outcomes


def _is_refusal(error: Mapping[str, Any]) -> bool:
    if error["code"] == DUPLICATE_KEY:
        return list(error.get("keyPattern", ())) == ["_id"]
    return bool(error["code"] == VALIDATION_FAILED)


def _new_fields(now: datetime, partition: int) -> dict[str, Any]:
    return {"created_at": now, "deleted": now, "updated_at": now, "version": 0, "partition": partition}
