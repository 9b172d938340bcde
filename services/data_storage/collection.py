"""A collection: its configuration, and the terms that its items live by.

Promise: what a change or a deletion was answered for is in force everywhere, because the answer
waits until no process goes by the terms from before. A collection that comes to belong to a project
tells it so, and goes with it.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Literal

import msgspec

from aidevos import BaseDurableObject, Failure, Schema, anyone, command, inject, new_id, query, services
from aidevos.contracts import projects
from aidevos.contracts.data import (
    COLLECTION_TYPE,
    ERASER_TYPE,
    VISIBILITY,
    VISIBLE,
    Collection,
    CollectionName,
    Config,
    VisibilityArgs,
    VisibleCollections,
)
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.projects.belongings import project_views
from aidevos.projects.memberships import Memberships, check_role
from aidevos.queries import LOOKUP_LIFE, View

from . import access, indexes
from .access import grants_of
from .changes import find_offenders, refusal
from .collection_state import PROJECT, CollectionState, Proposal, schema_text, terms_of
from .collection_views import TermsArgs, answer_terms, answer_visibility, answer_visible
from .config import check_config
from .indexes import assign
from .membership import terms_for
from .terms import TERMS, Index, Terms

_name: Schema[CollectionName] = Schema(CollectionName, "id")
# Seconds past the life of terms, for clocks that are read one after another.
MARGIN = 0.1


class DataStorageDO(BaseDurableObject[CollectionState], type=COLLECTION_TYPE, management="read_only"):
    """A collection of items. Its ID is its name."""

    # Seconds that a change may take: longer than any request.
    change_within: ClassVar[float] = 330.0
    project_aware = True
    memberships: Memberships = inject()
    views: ClassVar[tuple[View, ...]] = (
        View(TERMS, services(), TermsArgs, answer_terms),
        *project_views(COLLECTION_TYPE, PROJECT),
        View(VISIBLE, anyone(), VisibleCollections, answer_visible),
        View(VISIBILITY, anyone(), VisibilityArgs, answer_visibility),
    )
    indexes = ((".".join(PROJECT),),)

    @command(allow=services())
    async def begin(self, owner: str) -> None:
        """Make the collection for this owner with the default configuration, unless there is one."""
        if not self._lives():
            self._begin(owner)

    @command(allow=anyone(), matches=False)
    async def configure(
        self, config: Config, validate: Literal["all", "new"] = "all", only_new: bool = False
    ) -> Collection:
        """Make the collection or, unless it is to be `only_new`, change its configuration. A schema that
        existing items break is refused, unless only `new` writes are to be validated."""
        if self._lives():
            await self._admit()
            if only_new:
                raise Failure("exists", "there is a collection of this name")
            check_config(config)
            await self._check_project(config.project)
            return await self._change(config, validate)
        if not access.makes(self.caller, collection=self.id, project=config.project):
            raise access.no_collection()
        self.check_if_match()
        check_config(config)
        await self._check_project(config.project)
        self._begin(self.caller.subject)
        self._take(config, assign({}, config.indexes, complete=True))
        return self._shown(self.version + 1)

    @query(allow=anyone())
    async def config(self) -> Collection:
        """The configuration, for those who may know of the collection."""
        await self._known()
        return self._shown(self.version)

    @command(allow=anyone(), matches=False, name="delete")
    async def delete_collection(self) -> None:
        """End the collection. Its items are invisible at once, and are removed one after another."""
        await self._admit()
        self.state.ending = True
        self._erase_items()
        await self._be_in_force()
        await self.delete()

    @command(allow=services())
    async def vanish(self, project: str) -> None:
        """Go with the project."""
        belongs = self.state.config.project == project
        if belongs:
            self._erase_items()
        if belongs or not self.state.incarnation:
            await self.delete()

    @command(allow=services(), keeps_version=True)
    async def indexed(self, incarnation: str, indexes: dict[str, Index]) -> None:
        """Let queries go by indexes that were filled."""
        if self.state.incarnation != incarnation:
            raise access.no_collection()
        for slot, index in indexes.items():
            found = self.state.indexes.get(slot)
            if found is not None and found.paths == index.paths:
                self.state.indexes[slot] = Index(found.paths, complete=True)

    async def _change(self, config: Config, validate: Literal["all", "new"]) -> Collection:
        await self._check_items(config, validate)
        state = self.state
        self._take(config, assign(state.indexes, config.indexes, complete=False))
        new = {slot: index for slot, index in state.indexes.items() if not index.complete}
        if new:
            self.tell(indexes.TYPE, state.incarnation, "begin", collection=self.id, indexes=new)
        # A collection that was changed is told from a new one by its times, whose unit is a millisecond.
        state.updated_at = max(self.now, state.created_at + 0.001)
        await self._be_in_force()
        return self._shown(self.version)

    async def _check_items(self, config: Config, validate: Literal["all", "new"]) -> None:
        state = self.state
        schema = schema_text(config)
        proposal = Proposal(
            schema=schema if validate == "all" and schema != state.schema else "",
            unique=[path for path in config.unique if path not in state.config.unique],
            until=self.now + self.change_within,
        )
        if not (proposal.schema or proposal.unique):
            return
        state.proposal = proposal
        await self._be_in_force(keeps_version=True)
        offenders = await find_offenders(self, state.incarnation, proposal)
        state.proposal = None
        if offenders:
            await self.checkpoint(keeps_version=True)
            raise refusal(offenders)

    async def _be_in_force(self, *, keeps_version: bool = False) -> None:
        """Commit, and return when nobody goes by older terms."""
        await self.checkpoint(keeps_version=keeps_version)
        await asyncio.sleep(LOOKUP_LIFE + MARGIN)

    def _begin(self, owner: str) -> None:
        _name.convert(self.id)
        if self.state.incarnation:
            self._erase_items()
        self.state = CollectionState(owner=owner, incarnation=new_id(), created_at=self.now, updated_at=self.now)

    def _erase_items(self) -> None:
        self.tell(ERASER_TYPE, self.state.incarnation, "erase", by="incarnation")

    def _lives(self) -> bool:
        return bool(self.state.incarnation) and not self.state.ending

    async def _known(self) -> Terms:
        """The terms as they count for the caller, who may know of the collection."""
        terms = terms_of(self.id, self.state, self.now)
        terms = terms and await terms_for(self.caller, terms, self.memberships, self)
        if terms is None or not access.knows(terms.rules, self.caller, terms.owner, collection=self.id):
            raise access.no_collection()
        return terms

    async def _admit(self) -> None:
        terms = await self._known()
        if not access.administers(self.caller, terms.owner, collection=self.id):
            whose = "owner" if terms.project is None else "maintainers and owners of the collection's project"
            raise Failure("forbidden", f"this is for the {whose}, or needs collections:manage")
        self.check_if_match()

    async def _check_project(self, project: str | None) -> None:
        """Whether the caller may have the collection belong to this project."""
        if project is None and self.caller.project:
            raise Failure("forbidden", "this API key counts in its project alone", field="args.config.project")
        if project in (None, self.state.config.project):
            return
        role = await self.memberships.find_role(self, project, self.caller)
        if role is None:
            raise Failure("invalid", "there is no such project", field="args.config.project")
        check_role(role, "maintainer")

    def _take(self, config: Config, slots: dict[str, Index]) -> None:
        if config.project not in (None, self.state.config.project):
            self.tell(projects.TYPE, config.project, "confirm", type=COLLECTION_TYPE, id=self.id)
        self.state.schema = schema_text(config)
        self.state.config = msgspec.structs.replace(config, schema=None)
        self.state.indexes = slots
        grants = {*grants_of(config.rules, "read"), *grants_of(config.rules, "create")}
        self.state.grants = sorted(grants) if config.project is None else []

    def _shown(self, version: int) -> Collection:
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
