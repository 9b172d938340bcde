"""What is kept of a collection."""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import Config
from services.data_storage.terms import Index


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


def schema_text(config: Config) -> str:
    return "" if config.schema is None else msgspec.json.encode(config.schema).decode()
