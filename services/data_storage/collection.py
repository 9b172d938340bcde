"""A collection: its configuration, and the terms that its items live by."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure, anyone, command, new_id, query, services
from aidevos.contracts.data import COLLECTION_TYPE, Collection, CollectionName, Config
from aidevos.durable.clock import rfc3339, timestamp
from aidevos.durable.object import View
from aidevos.durable.reader import Reader
from aidevos.durable.schema import Schema
from services.data_storage import access
from services.data_storage.terms import TERMS, Index, Terms

_name: Schema[CollectionName] = Schema(CollectionName, "id")


class CollectionState(msgspec.Struct):
    """`config` lacks the schema, which is JSON text: its names could be no names in the store, and their
    order counts. `incarnation` is never used again. Times are in seconds since the epoch."""

    owner: str = ""
    incarnation: str = ""
    config: Config = msgspec.field(default_factory=Config)
    schema: str = ""
    indexes: dict[str, Index] = {}
    created_at: float = 0.0
    updated_at: float = 0.0


class TermsArgs(msgspec.Struct, forbid_unknown_fields=True):
    name: CollectionName


async def answer_terms(reader: Reader, args: TermsArgs) -> Terms | None:
    """The terms in force; None where there is no such collection."""
    found = (await reader.read(COLLECTION_TYPE, [args.name])).get(args.name)
    if found is None:
        return None
    return terms_of(args.name, msgspec.convert(found.state, CollectionState))


def terms_of(name: str, state: CollectionState) -> Terms:
    config = state.config
    return Terms(
        name=name,
        owner=state.owner,
        incarnation=state.incarnation,
        rules=config.rules,
        schemas=[state.schema] if state.schema else [],
        unique=config.unique,
        indexes=state.indexes,
        history=config.history,
        expires_after=config.expires_after,
        require_if_match=config.require_if_match,
    )


class CollectionDO(BaseDurableObject[CollectionState], type=COLLECTION_TYPE, management="read_only"):
    """A collection of items. Its ID is its name."""

    views = (View(TERMS, services(), TermsArgs, answer_terms),)

    @command(allow=services())
    async def begin(self, owner: str) -> None:
        """Make the collection for this owner with the default configuration, unless there is one."""
        if not self.state.incarnation:
            self._begin(owner)

    @command(allow=anyone(), matches=False)
    async def configure(self, config: Config) -> Collection:
        """Make the collection, or change its configuration."""
        if not self.state.incarnation:
            if not (self.caller.has(access.CREATE_COLLECTIONS) and self.caller.has(access.WRITE)):
                raise access.no_collection()
            self.check_if_match()
            self._begin(self.caller.subject)
        else:
            self._admit()
            self.check_if_match()
            # A collection that was changed is told from a new one by its times, whose unit is a millisecond.
            self.state.updated_at = max(self.now, self.state.created_at + 0.001)
        self._take(config)
        return self._shown(changes=1)

    @query(allow=anyone())
    async def config(self) -> Collection:
        """The configuration, for those who may know of the collection."""
        if not self.state.incarnation or not access.knows(self.state.config.rules, self.caller, self.state.owner):
            raise access.no_collection()
        return self._shown()

    @command(allow=anyone(), matches=False, name="delete")
    async def delete_collection(self) -> None:
        """End the collection. Its items are invisible at once, and are removed one after another."""
        self._admit()
        self.check_if_match()
        await self.delete()

    def _begin(self, owner: str) -> None:
        _name.convert(self.id)
        self.state = CollectionState(owner=owner, incarnation=new_id(), created_at=self.now, updated_at=self.now)

    def _admit(self) -> None:
        state = self.state
        if not state.incarnation or not access.knows(state.config.rules, self.caller, state.owner):
            raise access.no_collection()
        if not access.administers(self.caller, state.owner):
            raise Failure("forbidden", "this is for the collection's owner, or needs collections:manage")

    def _take(self, config: Config) -> None:
        state = self.state
        state.schema = "" if config.schema is None else msgspec.json.encode(config.schema).decode()
        state.config = msgspec.structs.replace(config, schema=None)

    def _shown(self, changes: int = 0) -> Collection:
        state = self.state
        fields: dict[str, Any] = msgspec.structs.asdict(state.config)
        fields["schema"] = msgspec.json.decode(state.schema) if state.schema else None
        return Collection(
            **fields,
            name=self.id,
            owner=state.owner,
            version=self.version + changes,
            created_at=rfc3339(timestamp(state.created_at)),
            updated_at=rfc3339(timestamp(state.updated_at)),
        )
