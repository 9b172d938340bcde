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
from services.data_storage import access, changes, indexes
from services.data_storage.changes import ProposalState, check_change
from services.data_storage.config import check_config
from services.data_storage.indexes import assign
from services.data_storage.collection_state import CollectionState, schema_text
from services.data_storage.collection_views import TermsArgs, answer_terms
from services.data_storage.terms import TERMS, Index

_name: Schema[CollectionName] = Schema(CollectionName, "id")


class CollectionDO(BaseDurableObject[CollectionState], type=COLLECTION_TYPE, management="read_only"):
    """A collection of items. Its ID is its name."""

    views = (View(TERMS, services(), TermsArgs, answer_terms),)

    @command(allow=services())
    async def begin(self, owner: str) -> None:
        """Make the collection for this owner with the default configuration, unless there is one."""
        if not self.state.incarnation:
            self._begin(owner)

    @command(allow=anyone(), matches=False)
    async def configure(self, config: Config, validate: Literal["all", "new"] = "all") -> Collection:
        """Make the collection, or change its configuration. A schema that existing items break is
        refused, unless only `new` writes are to be validated."""
        if not self.state.incarnation:
            if not (self.caller.has(access.CREATE_COLLECTIONS) and self.caller.has(access.WRITE)):
                raise access.no_collection()
            self.check_if_match()
            check_config(config)
            self._begin(self.caller.subject)
            self.state.indexes = assign({}, config.indexes, complete=True)
        else:
            self._admit()
            self.check_if_match()
            check_config(config)
            await self._check_items(config, validate)
            self._change_indexes(config.indexes)
            # A collection that was changed is told from a new one by its times, whose unit is a millisecond.
            self.state.updated_at = max(self.now, self.state.created_at + 0.001)
        self.state.schema = schema_text(config)
        self.state.config = msgspec.structs.replace(config, schema=None)
        return self._shown(changes=1)

    @command(allow=services(), keeps_version=True)
    async def indexed(self, incarnation: str, indexes: dict[str, Index]) -> None:
        """Let queries go by indexes that were filled."""
        if self.state.incarnation != incarnation:
            raise access.no_collection()
        for slot, index in indexes.items():
            found = self.state.indexes.get(slot)
            if found is not None and found.paths == index.paths:
                self.state.indexes[slot] = Index(found.paths, complete=True)

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
        self.tell(ERASER_TYPE, self.state.incarnation, "erase", by="incarnation")
        await self.delete()

    async def _check_items(self, config: Config, validate: Literal["all", "new"]) -> None:
        state = self.state
        schema = schema_text(config)
        proposal = ProposalState(
            id=self.request_id,
            incarnation=state.incarnation,
            schema=schema if validate == "all" and schema != state.schema else "",
            unique=[path for path in config.unique if path not in state.config.unique],
            until=self.now + self.proposal_age,
        )
        if proposal.schema or proposal.unique:
            await check_change(self, proposal)
            self.tell(changes.TYPE, self.id, "withdraw", proposal=proposal.id)

    def _change_indexes(self, wanted: list[list[str]]) -> None:
        state = self.state
        state.indexes = assign(state.indexes, wanted, complete=False)
        new = {slot: index for slot, index in state.indexes.items() if not index.complete}
        if new:
            self.tell(indexes.TYPE, state.incarnation, "begin", collection=self.id, indexes=new)

    def _begin(self, owner: str) -> None:
        _name.convert(self.id)
        self.state = CollectionState(owner=owner, incarnation=new_id(), created_at=self.now, updated_at=self.now)

    def _admit(self) -> None:
        state = self.state
        if not state.incarnation or not access.knows(state.config.rules, self.caller, state.owner):
            raise access.no_collection()
        if not access.administers(self.caller, state.owner):
            raise Failure("forbidden", "this is for the collection's owner, or needs collections:manage")

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
