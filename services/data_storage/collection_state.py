"""What is kept of a collection, and the terms that follow from it."""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import Config

from .terms import Index, Terms

# Where a collection's state names its project.
PROJECT = ("config", "project")


class Proposal(msgspec.Struct):
    """A change that existing items may break, while they are looked at; it lapses by itself. `until` is in
    seconds since the epoch."""

    schema: str
    unique: list[str]
    until: float


class CollectionState(msgspec.Struct):
    """`config` lacks the schema, which is JSON text: its names could be no names in the store, and their
    order counts. `grants` are all that let somebody know of a collection
    that belongs to no project. `incarnation` is never used
    again, and one that is `ending` is as good as gone. Times are in seconds since the epoch."""

    owner: str = ""
    incarnation: str = ""
    config: Config = msgspec.field(default_factory=Config)
    schema: str = ""
    indexes: dict[str, Index] = {}
    grants: list[str] = []
    proposal: Proposal | None = None
    ending: bool = False
    created_at: float = 0.0
    updated_at: float = 0.0


def schema_text(config: Config) -> str:
    return "" if config.schema is None else msgspec.json.encode(config.schema).decode()


def terms_of(name: str, state: CollectionState, now: float) -> Terms | None:
    """The terms in force; while a change is proposed, those of what is and of what is to be."""
    if not state.incarnation or state.ending:
        return None
    config, proposal = state.config, state.proposal
    schemas, unique = [state.schema] if state.schema else [], list(config.unique)
    if proposal is not None and proposal.until > now:
        schemas += [proposal.schema] if proposal.schema else []
        unique += proposal.unique
    return Terms(
        name=name,
        owner=state.owner,
        incarnation=state.incarnation,
        project=config.project,
        rules=config.rules,
        schemas=schemas,
        unique=unique,
        indexes=state.indexes,
        history=config.history,
        expires_after=config.expires_after,
        require_if_match=config.require_if_match,
    )
