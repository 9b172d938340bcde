"""What is asked of collections' committed states."""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import COLLECTION_TYPE, CollectionName
from aidevos.durable.reader import Reader
from services.data_storage.collection_state import CollectionState, terms_of
from services.data_storage.terms import Terms


class TermsArgs(msgspec.Struct, forbid_unknown_fields=True):
    name: CollectionName


async def answer_terms(reader: Reader, args: TermsArgs) -> Terms | None:
    """The terms in force; None where there is no such collection."""
    found = (await reader.read(COLLECTION_TYPE, [args.name])).get(args.name)
    return terms_of(args.name, msgspec.convert(found.state, CollectionState), reader.now) if found else None
