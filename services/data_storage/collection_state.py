"""The stored state of a collection, and the terms derived from it."""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import Config

from .terms import Index, Terms

# The path of the project in a collection's state.
PROJECT = ("config", "project")


class Proposal(msgspec.Struct):
    """A configuration change that existing items are being checked against.

    It lapses at `until`, in seconds since the epoch.
    """

    schema: str
    unique: list[str]
    until: float


class CollectionState(msgspec.Struct):
    """The state of one collection. Times are in seconds since the epoch.

    The schema is kept as JSON text and not in `config`, because the store doesn't accept all of its names
    and their order matters. `grants` are the grants by which callers may know of a collection without a
    project. An `incarnation` is never reused. `expiring` is False if no configuration has let items expire; an
    earlier version of this service didn't note that. A collection that is `ending` counts as deleted.
    """

    owner: str = ""
    incarnation: str = ""
    config: Config = msgspec.field(default_factory=Config)
    schema: str = ""
    indexes: dict[str, Index] = {}
    grants: list[str] = []
    proposal: Proposal | None = None
    expiring: bool = True
    ending: bool = False
    created_at: float = 0.0
    updated_at: float = 0.0


def encode_schema(config: Config) -> str:
    """Return the schema of a configuration as JSON text; empty if there is none."""
    return "" if config.schema is None else msgspec.json.encode(config.schema).decode()


def derive_terms(name: str, state: CollectionState, now: float) -> Terms | None:
    """Return the terms in force, or None if the collection doesn't exist.

    While a change is proposed, the terms combine the present and the proposed configuration.
    """
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
        expiring=state.expiring,
        require_if_match=config.require_if_match,
    )
