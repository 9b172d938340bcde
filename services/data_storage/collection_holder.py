"""The holder of the collections that a user has created: their number."""

from __future__ import annotations

from aidevos.contracts.data import COLLECTION_TYPE, HOLDER_TYPE
from aidevos.work.holders import Holder


class CollectionHolderDO(Holder, type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's collections, under the user's ID."""

    held = COLLECTION_TYPE
    noun = "collections"

    @property
    def limit(self) -> int:
        return self.settings.max_collections
