"""The security log's rules in one process: its entries, their writers, and their retention."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, Failure, anyone, command
from aidevos.contracts.envelope import CLIENT_ADDRESS
from aidevos.security import audit
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN, SERVICE
from services.authentication.service import service as authentication
from tests.support.kits import failure

ADA = Principal("ada-id", ("user",), frozenset(), session="s1")


class DoorState(msgspec.Struct):
    opened: int = 0


class EntryPoint(BaseDurableObject[DoorState], type="door"):
    @command(allow=anyone())
    async def open(self, key: str) -> None:
        audit.record(self, "door.opened", target=self.id, reason="with a key")
        self.state.opened += 1
        if key != "right":
            await audit.record_failure(self, "door.refused", target=self.id, reason="wrong key")
            raise Failure("forbidden", "that is another door's key")


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with ObjectKit(EntryPoint, authentication, settings=settings) as kit:
        yield kit


def entries(kit: ObjectKit) -> list[dict[str, Any]]:
    """Return the states of all entries, ordered by ID."""
    stored = kit.store.documents["audit"]
    return [stored[id]["state"] for id in sorted(stored) if stored[id].get("deleted") is None]


async def test_a_turn_that_commits_leaves_its_entry_and_one_that_raises_only_that_of_its_failure(
    kit: ObjectKit,
) -> None:
    await kit.call("door", "d", "open", key="right", caller=ADA, headers={CLIENT_ADDRESS: "192.0.2.7"})
    await failure(kit.call("door", "d", "open", key="wrong", caller=ADA))
    await kit.settle()

    common = {"at": kit.clock.now(), "actor": "ada-id", "target": "d", "session": "s1"}
    assert sorted(entries(kit), key=lambda entry: entry["action"]) == [
        {"action": "door.opened", "outcome": "success", "reason": "with a key", "address": "192.0.2.7"} | common,
        {"action": "door.refused", "outcome": "failure", "reason": "wrong key", "address": ""} | common,
    ]


async def test_an_entry_is_written_once_by_a_service_and_changed_by_nobody(kit: ObjectKit) -> None:
    entry = {
        "at": 1.0,
        "actor": "a",
        "action": "login",
        "target": "t",
        "outcome": "success",
        "reason": "",
        "address": "",
        "session": "",
    }

    assert (await failure(kit.call("audit", "e", "record", **entry, caller=ADMIN))).code == "forbidden"
    await kit.call("audit", "e", "record", **entry, caller=SERVICE)
    assert (
        await failure(kit.call("audit", "e", "record", **(entry | {"actor": "b"}), caller=SERVICE))
    ).code == "exists"
    for method, args in (("_replace", {"state": {}}), ("_delete", {}), ("_create", {})):
        assert (await failure(kit.call("audit", "e", method, **args, caller=ADMIN))).code in ("forbidden", "exists")
    assert entries(kit) == [entry]


async def test_an_entry_goes_when_it_is_older_than_entries_are_kept(kit: ObjectKit, settings: Settings) -> None:
    await kit.call("door", "d", "open", key="right")
    await kit.settle()
    (id,) = kit.store.documents["audit"]

    kit.clock.advance(settings.audit_age - 1)
    await kit.call("audit", id, "expire", caller=SERVICE)
    kept = entries(kit)
    kit.clock.advance(1)
    await kit.call("audit", id, "expire", caller=SERVICE)
    await kit.settle()

    assert len(kept) == 1
    assert entries(kit) == []
