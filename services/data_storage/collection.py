"""A collection: its configuration, and the terms for its items.

Promise: once a change or a deletion is answered, it is in force everywhere, because the answer waits
until no process uses the earlier terms. A collection that joins a project tells the project so, and
is deleted with it.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Literal

import msgspec

from aidevos import BaseDurableObject, Failure, Schema, anyone, command, inject, new_id, query, services
from aidevos.contracts import projects
from aidevos.contracts.data import (
    COLLECTION_TYPE,
    CREATABLE,
    ERASER_TYPE,
    HOLDER_TYPE,
    VISIBILITY,
    VISIBLE,
    Collection,
    CollectionName,
    Config,
    CreatableArgs,
    VisibilityArgs,
    VisibleCollections,
)
from aidevos.contracts.subjects import is_id
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.projects.belongings import project_views
from aidevos.projects.memberships import Memberships, check_role
from aidevos.queries import LOOKUP_LIFE, View
from aidevos.work.holders import held_view

from . import access, indexes
from .access import list_grants
from .changes import find_offenders, refuse
from .collection_state import PROJECT, CollectionState, Proposal, derive_terms, encode_schema
from .collection_views import TermsArgs, answer_creatable, answer_terms, answer_visibility, answer_visible
from .config import check_config
from .indexes import assign
from .membership import resolve_terms
from .terms import TERMS, Index, Terms

_name: Schema[CollectionName] = Schema(CollectionName, "id")
# Seconds beyond the lifetime of cached terms, because clocks are not read at the same instant.
MARGIN = 0.1


class DataStorageDO(BaseDurableObject[CollectionState], type=COLLECTION_TYPE, management="read_only"):
    """A collection of items. Its ID is its name."""

    # Seconds until a proposed change lapses; longer than any request.
    change_timeout: ClassVar[float] = 330.0
    project_aware = True
    memberships: Memberships = inject()
    views: ClassVar[tuple[View, ...]] = (
        View(TERMS, services(), TermsArgs, answer_terms),
        *project_views(COLLECTION_TYPE, PROJECT),
        held_view(COLLECTION_TYPE, ("owner",)),
        View(VISIBLE, anyone(), VisibleCollections, answer_visible),
        View(VISIBILITY, anyone(), VisibilityArgs, answer_visibility),
        View(CREATABLE, anyone(), CreatableArgs, answer_creatable),
    )
    indexes = ((".".join(PROJECT),), ("owner",))

    @command(allow=services())
    async def begin(self, owner: str) -> None:
        """Create the collection for this owner with the default configuration, unless it exists."""
        if not self._exists():
            await self._create(owner)

    @command(allow=anyone(), checks_if_match=False)
    async def configure(
        self, config: Config, validate: Literal["all", "new"] = "all", only_new: bool = False
    ) -> Collection:
        """Create the collection or change its configuration.

        With `only_new`, raises `exists` for an existing collection. A schema that existing items break is
        refused with `conflict`, unless `validate` is `new`; then it applies only to new writes.
        """
        if self._exists():
            await self._check_may_configure()
            if only_new:
                raise Failure("exists", "a collection of this name already exists")
            check_config(config)
            await self._check_project(config.project)
            return await self._change(config, validate)
        if not access.may_create_collection(self.caller, collection=self.id, project=config.project):
            raise access.collection_not_found()
        self.check_if_match()
        check_config(config)
        await self._check_project(config.project)
        await self._create(self.caller.subject)
        self._apply(config, assign({}, config.indexes, complete=True))
        return self._render(self.version + 1)

    @query(allow=anyone())
    async def config(self) -> Collection:
        """Return the configuration, if the caller may know of the collection."""
        await self._load_terms()
        return self._render(self.version)

    @command(allow=anyone(), checks_if_match=False, name="delete")
    async def delete_collection(self) -> None:
        """Delete the collection. Its items are invisible at once and are removed in the background."""
        await self._check_may_configure()
        self.state.ending = True
        self._end()
        await self._put_in_force()
        await self.delete()

    @command(allow=services())
    async def vanish(self, project: str) -> None:
        """Delete the collection because its project is deleted."""
        is_in_project = self.state.config.project == project
        if is_in_project:
            self._end()
        if is_in_project or not self.state.incarnation:
            await self.delete()

    @command(allow=services(), keeps_version=True)
    async def indexed(self, incarnation: str, indexes: dict[str, Index]) -> None:
        """Allow queries to use indexes that are now filled."""
        if self.state.incarnation != incarnation:
            raise access.collection_not_found()
        for slot, index in indexes.items():
            found = self.state.indexes.get(slot)
            if found is not None and found.paths == index.paths:
                self.state.indexes[slot] = Index(found.paths, complete=True)

    async def _change(self, config: Config, validate: Literal["all", "new"]) -> Collection:
        await self._check_existing_items(config, validate)
        state = self.state
        self._apply(config, assign(state.indexes, config.indexes, complete=False))
        new = {slot: index for slot, index in state.indexes.items() if not index.complete}
        if new:
            self.tell(indexes.TYPE, state.incarnation, "begin", collection=self.id, indexes=new)
        # Callers recognise a changed collection by its times, which have a resolution of a millisecond.
        state.updated_at = max(self.now, state.created_at + 0.001)
        await self._put_in_force()
        return self._render(self.version)

    async def _check_existing_items(self, config: Config, validate: Literal["all", "new"]) -> None:
        state = self.state
        schema = encode_schema(config)
        proposal = Proposal(
            schema=schema if validate == "all" and schema != state.schema else "",
            unique=[path for path in config.unique if path not in state.config.unique],
            until=self.now + self.change_timeout,
        )
        if not (proposal.schema or proposal.unique):
            return
        state.proposal = proposal
        await self._put_in_force(keeps_version=True)
        offenders = await find_offenders(self, state.incarnation, proposal)
        state.proposal = None
        if offenders:
            await self.checkpoint(keeps_version=True)
            raise refuse(offenders)

    async def _put_in_force(self, *, keeps_version: bool = False) -> None:
        """Commit, and return once no process uses older terms."""
        await self.checkpoint(keeps_version=keeps_version)
        await asyncio.sleep(LOOKUP_LIFE + MARGIN)

    async def _create(self, owner: str) -> None:
        _name.convert(self.id)
        if is_id(owner):
            await self.call(HOLDER_TYPE, owner, "reserve", id=self.id)
        if self.state.incarnation:
            self._erase_items()
        self.state = CollectionState(
            owner=owner, incarnation=new_id(), expiring=False, created_at=self.now, updated_at=self.now
        )

    def _end(self) -> None:
        """Remove the items, and count the collection no longer among its owner's."""
        self._erase_items()
        if is_id(self.state.owner):
            self.tell(HOLDER_TYPE, self.state.owner, "release", id=self.id)

    def _erase_items(self) -> None:
        self.tell(ERASER_TYPE, self.state.incarnation, "erase", by="incarnation")

    def _exists(self) -> bool:
        return bool(self.state.incarnation) and not self.state.ending

    async def _load_terms(self) -> Terms:
        """Return the terms that apply to the caller, or raise `not-found` if the collection is hidden from them."""
        terms = derive_terms(self.id, self.state, self.now)
        terms = terms and await resolve_terms(self.caller, terms, self.memberships, self)
        if terms is None or not access.may_know(terms.rules, self.caller, terms.owner, collection=self.id):
            raise access.collection_not_found()
        return terms

    async def _check_may_configure(self) -> None:
        terms = await self._load_terms()
        if not access.may_configure(self.caller, terms.owner, collection=self.id):
            admitted = "its owner" if terms.project is None else "maintainers and owners of its project"
            detail = f"only {admitted} and callers with collections:manage may change this collection"
            raise Failure("forbidden", detail)
        self.check_if_match()

    async def _check_project(self, project: str | None) -> None:
        """Raise a failure if the caller may not put the collection into this project."""
        if project is None and self.caller.project:
            raise Failure("forbidden", "this API key is valid only in its project", field="args.config.project")
        if project in (None, self.state.config.project):
            return
        role = await self.memberships.find_role(self, project, self.caller)
        if role is None:
            raise Failure("invalid", "this project doesn't exist", field="args.config.project")
        check_role(role, "maintainer")

    def _apply(self, config: Config, slots: dict[str, Index]) -> None:
        if config.project not in (None, self.state.config.project):
            self.tell(projects.TYPE, config.project, "confirm", type=COLLECTION_TYPE, id=self.id)
        self.state.schema = encode_schema(config)
        self.state.config = msgspec.structs.replace(config, schema=None)
        self.state.indexes = slots
        self.state.expiring = self.state.expiring or config.expires_after is not None
        grants = {*list_grants(config.rules, "read"), *list_grants(config.rules, "create")}
        self.state.grants = sorted(grants) if config.project is None else []

    def _render(self, version: int) -> Collection:
        state = self.state
        fields: dict[str, Any] = msgspec.structs.asdict(state.config)
        fields["schema"] = msgspec.json.decode(state.schema) if state.schema else None
        return Collection(
            **fields,
            name=self.id,
            owner=state.owner,
            version=version,
            created_at=rfc3339(timestamp(state.created_at)),
            updated_at=rfc3339(timestamp(state.updated_at)),
        )
