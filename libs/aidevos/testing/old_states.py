"""States as earlier versions of a class have stored them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.durable.store.port import Claim, Commit, Outcome, Store


async def store_state(store: Store, type: str, id: str, state: Mapping[str, Any], schema: int, at: datetime) -> None:
    """Store a state of a schema version as an object that was last changed at this time."""
    owner = f"kit.{secrets.token_hex(8)}"
    claimed = (await store.claim(type, [Claim(id, owner, subjects.partition(type, id))]))[id]
    fields = {"state": dict(state), "schema": schema, "version": claimed.version + 1, "made_at": at, "updated_at": at}
    size = len(msgspec.json.encode(state))
    commit = Commit(id, owner, claimed.turn + 1, secrets.token_hex(8), fields, ("deleted",), size)
    [outcome] = await store.commit(type, [commit])
    if outcome is not Outcome.APPLIED:
        raise RuntimeError(f"the state of {type}:{id} can't be stored: {outcome.value}")
