"""Stored states against the code that was just loaded: what it can't read, and what it would lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from aidevos.contracts.errors import Failure
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.store import codec
from aidevos.process.migration import Findings, examine
from aidevos.security.tls import mongo_options
from aidevos.settings import Settings

# Objects of each type that are tried.
TRIED = 200
SERVER_WITHIN_MS = 5000
LIVE: dict[str, Any] = {"deleted": None}
SHOWN = {"state": True, "schema": True}


def find_unfit(settings: Settings, types: Iterable[ObjectType]) -> Iterator[str]:
    """Yield a sentence about each type that has stored states which don't fit it. Without MongoDB, nothing is tried."""
    tls = mongo_options(settings, settings.mongo_url)
    options: Any = {"document_class": RawBSONDocument, "tz_aware": True, "serverSelectionTimeoutMS": SERVER_WITHIN_MS}
    try:
        with pymongo.MongoClient(settings.mongo_url, **options, **tls) as client:
            for type in types:
                stored = client[settings.mongo_database][f"obj_{type.name}"].find(LIVE, SHOWN).limit(TRIED)
                if problem := describe_unfit(type, list(stored)):
                    yield problem
    except PyMongoError:
        return


def describe_unfit(type: ObjectType, documents: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence if some documents don't fit a type, or else an empty string."""
    version = type.cls.schema_version
    remedy = f"set schema_version={version + 1} and write an @upcast(from_={version})"
    found = Findings(type.name, version)
    for document in documents:
        examine(found, type, document["_id"], _plain_state(document), int(document.get("schema") or 1))
    if problems := found.problems:
        first = problems[0]
        what = f"{first.field}: {first.detail}" if first.field else first.detail
        if first.schema > version:
            return f"{type.name}:{first.id}: {first.detail}"
        count = f"{len(problems)} of {len(documents)} stored objects don't fit {type.cls.state_type.__name__}"
        return f"{count}, for example {type.name}:{first.id} ({what}): {remedy}, or delete them"
    for document in documents:
        if int(document.get("schema") or 1) == version and (field := _find_unknown(type, document)):
            where = f"{type.name}:{document['_id']} has the field {field}, which {type.cls.state_type.__name__} lacks"
            return f"{where}: its next command drops it. To keep it, {remedy}"
    return ""


def _find_unknown(type: ObjectType, document: Mapping[str, Any]) -> str:
    try:
        # It refuses unknown fields, unlike an activation.
        type.state.convert(_plain_state(document))
    except Failure as failure:
        return (failure.field or "").removeprefix("state.")
    return ""


def _plain_state(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as maps and lists, as an activation gets it."""
    state = document.get("state")
    return codec.decode(bytes(state.raw)) if state is not None else {}
