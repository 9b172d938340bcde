"""A stand-in for MongoDB's driver, and stores on it.

It encodes what the store sends, as the driver and the store's channels do, and answers at once. What a store does with
commits and documents can thus be counted without a server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.raw_bson import RawBSONDocument
from pymongo.message import _op_msg

from aidevos.durable.store import codec, mongo
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import Commit, Document, Find, Outcome

CONCERN = SimpleNamespace(document={"w": "majority"}, level="majority")


class Driver:
    """The driver's client, database and collection, and the channels, in one. Each search finds `documents`."""

    write_concern = read_concern = CONCERN
    delegate = None

    def __init__(self, *_: object, **options: object) -> None:
        self.documents: list[bytes] = []
        self._reply = b""

    def get_database(self, *_: object, **options: object) -> Driver:
        return self

    def get_collection(self, *_: object, **options: object) -> Driver:
        return self

    def __getitem__(self, name: str) -> Driver:
        return self

    async def command(self, command: dict[str, Any], decode: Callable[[bytes], Any] = bson.decode) -> Any:
        _op_msg(0, command, "guard", None, DEFAULT_CODEC_OPTIONS)
        if "find" in command:
            self._reply = self._reply or _encode_reply(self.documents)
            return decode(self._reply)
        return {"ok": 1.0, "n": len(command.get("updates", ()))}

    async def bulk_write(self, updates: Sequence[Any], **options: object) -> None:
        for update in updates:
            bson.encode({"q": update._filter, "u": update._doc, "upsert": update._upsert})


def _encode_reply(documents: Sequence[bytes]) -> bytes:
    """Return the server's reply to a search that finds these documents."""
    found = [RawBSONDocument(document, codec.RAW) for document in documents]
    return bson.encode({"ok": 1.0, "cursor": {"id": 0, "firstBatch": found}})


class DrivenStore(MemoryStore):
    """A store in memory whose commits and searches do the work of the MongoDB store.

    Commits are encoded, not applied, so objects must stay active. `committed` is the last batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.committed: list[Commit] = []
        opened = {"AsyncIOMotorClient": lambda *_, **options: self.driver, "Channels": lambda *_: self.driver}
        with patch.multiple(mongo, **opened):
            self.mongo = MongoStore("mongodb://nowhere", "guard")

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        self.committed = list(commits)
        return await self.mongo.commit(type, commits)

    async def find(self, type: str, wanted: Find) -> list[Document]:
        return await self.mongo.find(type, wanted)


def stored(document: Document) -> bytes:
    """Return an object as a search for parts of states finds it in MongoDB."""
    return bson.encode({"_id": document.id, "schema": document.schema, "state": document.state})
