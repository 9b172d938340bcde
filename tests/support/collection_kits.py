"""Collections of projects, as project members use them."""

from __future__ import annotations

import secrets
from typing import Any

from aidevos import new_id
from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import Principal
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN
from tests.support.project_kits import outcome


async def configure(kit: ObjectKit, name: str, caller: Principal, **config: Any) -> Any:
    return await kit.call("collection", name, "configure", config=config, caller=caller)


async def collection(kit: ObjectKit, project: str | None, caller: Principal, **rules: Any) -> str:
    name = f"c{secrets.token_hex(4)}"
    await configure(kit, name, caller, rules=rules, **({"project": project} if project else {}))
    await create(kit, name, "first", ADMIN)
    return name


async def create(kit: ObjectKit, collection: str, id: str, caller: Principal) -> Any:
    args = {"collection": collection, "id": id, "data": 1}
    return await kit.call("item", item_object(collection, id), "create", **args, caller=caller)


async def outcomes(kit: ObjectKit, collection: str, caller: Principal) -> dict[str, str]:
    """Try each operation as the caller, and return the outcomes by operation."""
    item = item_object(collection, "first")
    new = {"collection": collection, "id": new_id(), "data": 1}
    outcomes = {
        "config": await outcome(kit, "collection", collection, "config", {}, caller),
        "find": await found(kit, collection, caller),
        "read": await outcome(kit, "item", item, "read", {}, caller),
        "create": await outcome(kit, "item", item_object(collection, new["id"]), "create", new, caller),
        "update": await outcome(kit, "item", item, "replace", {"data": 2}, caller),
        "administer": await outcome(
            kit, "collection", collection, "configure", {"config": {}}, caller, **{"If-Match": '"99"'}
        ),
    }
    assert await creatable(kit, collection, caller) == outcomes["create"]
    return outcomes


async def creatable(kit: ObjectKit, collection: str, caller: Principal) -> str:
    """The outcome that the view foretells for the creation of an item."""
    try:
        await kit.query("collection", "creatable", collection=collection, caller=caller)
    except Failure as refused:
        return refused.code
    return "done"


async def found(kit: ObjectKit, collection: str, caller: Principal) -> str:
    try:
        return str(len((await kit.query("item", "find", collection=collection, caller=caller))["items"]))
    except Failure as refused:
        return refused.code


async def listed(kit: ObjectKit, caller: Principal, **args: str) -> list[str]:
    page = await kit.query("collection", "visible", **args, caller=caller)
    return [entry["name"] for entry in page["items"]]
