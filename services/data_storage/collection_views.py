"""What is asked of collections' committed states."""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import COLLECTION_TYPE, CollectionName
from aidevos.durable.reader import Reader
from services.data_storage import changes
from services.data_storage.changes import ProposalState
from services.data_storage.collection_state import CollectionState
from services.data_storage.terms import Terms


class TermsArgs(msgspec.Struct, forbid_unknown_fields=True):
    name: CollectionName


async def answer_terms(reader: Reader, args: TermsArgs) -> Terms | None:
    """The terms in force; None where there is no such collection."""
    found = (await reader.read(COLLECTION_TYPE, [args.name])).get(args.name)
    if found is None:
        return None
    terms = terms_of(args.name, msgspec.convert(found.state, CollectionState))
    proposed = (await reader.read(changes.TYPE, [args.name])).get(args.name)
    if proposed is not None:
        _add(terms, msgspec.convert(proposed.state, ProposalState), reader.now)
    return terms


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


def _add(terms: Terms, proposal: ProposalState, now: float) -> None:
    """Make the terms those of what is and of what is to be."""
    if proposal.incarnation != terms.incarnation or proposal.until <= now:
        return
    if proposal.schema and proposal.schema not in terms.schemas:
        terms.schemas.append(proposal.schema)
    terms.unique = [*terms.unique, *(path for path in proposal.unique if path not in terms.unique)]
