"""API keys that manage keys: they can narrow and end themselves, and make others within their own bounds."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos import new_id
from aidevos.contracts.api_keys import KeyGrant
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.security import api_keys, scopes
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.api_gateway import api_key
from services.api_gateway.service import service as api_gateway
from tests.support import account_kits
from tests.support.account_kits import register
from tests.support.kits import START, failure

BOUNDS = {
    "scopes": ["keys:self", "data:read"],
    "limits": {"rate": 10, "window": 1.0},
    "expires_at": rfc3339(timestamp(START + 1000)),
    "allowed_addresses": ["10.0.0.0/8"],
}
WIDER = {
    "scopes": ["keys:self", "data:read", "data:write"],
    "limits": {"rate": 10, "window": 0.5},
    "expires_at": rfc3339(timestamp(START + 1001)),
    "allowed_addresses": ["10.0.0.0/8", "192.0.2.1/32"],
}
UNBOUNDED = {"limits": None, "expires_at": None, "allowed_addresses": []}
NARROWER = {
    "scopes": ["keys:self", "data:read:collection=orders"],
    "limits": {"rate": 5, "window": 1.0},
    "expires_at": rfc3339(timestamp(START + 999)),
    "allowed_addresses": ["10.1.0.0/16", "10.2.3.4/32"],
}


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with account_kits.kit_of(settings, api_gateway) as kit:
        yield kit


@pytest.fixture
async def ada(kit: ObjectKit) -> Principal:
    id = new_id()
    await register(kit, id)
    return Principal(id, ("user",), frozenset({"keys:self", "data:read", "data:write"}))


async def make(kit: ObjectKit, caller: Principal, **bounds: Any) -> Any:
    args = {"name": "k", "scopes": ["keys:self", "data:read"], **bounds}
    return await kit.call("api_key", new_id(), "create", **args, caller=caller)


async def patch(kit: ObjectKit, key: Any, caller: Principal, **changes: Any) -> Any:
    return await kit.call("api_key", key["id"], "patch", patch=changes, caller=caller)


async def resolve(kit: ObjectKit, key: Any) -> KeyGrant:
    hashed = api_keys.parse(key["key"]).hashed
    grant = await kit.call("api_key", key["id"], "resolve", hashed=hashed, caller=SERVICE)
    return KeyGrant(**grant)


async def caller_with(kit: ObjectKit, ada: Principal, key: Any) -> Principal:
    """Return the caller that presents this key of Ada's."""
    allowed, narrowed = scopes.grant((await resolve(kit, key)).scopes, ada.permissions)
    return Principal(ada.subject, ada.roles, allowed, key=key["id"], narrowed=narrowed)


async def code(work: Any) -> str:
    return (await failure(work)).code


@pytest.mark.parametrize("changes", [{name: value} for one in (WIDER, UNBOUNDED) for name, value in one.items()])
async def test_a_key_does_not_widen_its_own_bounds(kit: ObjectKit, ada: Principal, changes: dict[str, Any]) -> None:
    key = await make(kit, ada, **BOUNDS)

    refused = await failure(patch(kit, key, await caller_with(kit, ada, key), **changes))

    assert (refused.code, (refused.field or "").partition("[")[0]) == ("forbidden", f"args.patch.{next(iter(changes))}")
    unchanged = await kit.call("api_key", key["id"], "read", caller=ada)
    assert unchanged == {name: value for name, value in key.items() if name != "key"}
    assert (await patch(kit, key, ada, **changes))["version"] == 2


async def test_a_key_with_few_scopes_of_a_powerful_owner_adds_none(kit: ObjectKit, ada: Principal) -> None:
    key = await make(kit, ada, scopes=["keys:self", "data:read:collection=orders"])
    caller = Principal(ada.subject, ("admin",), frozenset({"*"}), key=key["id"])

    for wider in ("*", "data:read", "data:read:collection=other", "counter:read"):
        refused = await failure(patch(kit, key, caller, scopes=["keys:self", wider]))
        assert (refused.code, refused.field) == ("forbidden", "args.patch.scopes")


@pytest.mark.parametrize("changes", [{name: value} for name, value in NARROWER.items()] + [NARROWER])
async def test_a_key_narrows_its_own_bounds(kit: ObjectKit, ada: Principal, changes: dict[str, Any]) -> None:
    key = await make(kit, ada, **BOUNDS)

    shown = await patch(kit, key, await caller_with(kit, ada, key), **changes)

    assert {name: shown[name] for name in changes} == changes


@pytest.mark.parametrize("granted", [{"keys:self"}, {"keys:manage"}, {"*"}])
async def test_a_key_changes_no_other_key(kit: ObjectKit, ada: Principal, granted: set[str]) -> None:
    everything = await make(kit, ada, scopes=["*"])
    narrow = Principal(ada.subject, ada.roles, frozenset(granted), key="0190" + "b" * 28)

    for method, args in (("patch", {"patch": {}}), ("rotate", {}), ("revoke", {})):
        assert await code(kit.call("api_key", everything["id"], method, **args, caller=narrow)) == "forbidden"
    assert (await resolve(kit, everything)).scopes == ["*"]
    assert (await kit.call("api_key", everything["id"], "read", caller=narrow))["scopes"] == ["*"]


async def test_a_key_ends_itself_but_gets_no_other_text_or_name(kit: ObjectKit, ada: Principal) -> None:
    key = await make(kit, ada)
    caller = await caller_with(kit, ada, key)

    assert await code(kit.call("api_key", key["id"], "rotate", caller=caller)) == "forbidden"
    assert await code(patch(kit, key, caller, name="another")) == "forbidden"
    await kit.call("api_key", key["id"], "revoke", caller=caller)
    assert await code(resolve(kit, key)) == "not-found"


async def test_a_key_that_a_key_makes_has_its_bounds(kit: ObjectKit, ada: Principal) -> None:
    parent = await make(kit, ada, **BOUNDS)

    child = await make(kit, await caller_with(kit, ada, parent))

    assert child["parent"] == parent["id"]
    assert parent["parent"] is None
    assert {name: child[name] for name in BOUNDS} == BOUNDS
    grant = await resolve(kit, child)
    assert (grant.parents, grant.expires_at) == ([parent["id"]], START + 1000)
    assert grant.parent_limits == [{"key": parent["id"], "limit": BOUNDS["limits"]}]


@pytest.mark.parametrize("bound", WIDER)
async def test_a_key_makes_none_with_wider_bounds(kit: ObjectKit, ada: Principal, bound: str) -> None:
    parent = await make(kit, ada, **BOUNDS)

    refused = await failure(make(kit, await caller_with(kit, ada, parent), **{bound: WIDER[bound]}))

    assert (refused.code, (refused.field or "").partition("[")[0]) == ("forbidden", f"args.{bound}")


async def test_a_key_makes_one_with_narrower_bounds(kit: ObjectKit, ada: Principal) -> None:
    parent = await make(kit, ada, **BOUNDS)

    child = await make(kit, await caller_with(kit, ada, parent), **NARROWER)

    assert {name: child[name] for name in NARROWER} == NARROWER


async def test_what_narrows_a_key_narrows_those_that_it_has_made(kit: ObjectKit, ada: Principal) -> None:
    parent = await make(kit, ada)
    child = await make(kit, await caller_with(kit, ada, parent))
    grandchild = await make(kit, await caller_with(kit, ada, child))

    await patch(kit, parent, ada, **NARROWER)

    for key, parents in ((child, [parent["id"]]), (grandchild, [child["id"], parent["id"]])):
        grant = await resolve(kit, key)
        assert grant.scopes == NARROWER["scopes"]
        assert grant.allowed_addresses == NARROWER["allowed_addresses"]
        assert grant.expires_at == START + 999
        assert grant.parent_limits == [{"key": parent["id"], "limit": NARROWER["limits"]}]
        assert grant.parents == parents


async def test_its_owner_gives_a_key_no_more_than_the_one_that_made_it_has(kit: ObjectKit, ada: Principal) -> None:
    parent = await make(kit, ada, **BOUNDS)
    child = await make(kit, await caller_with(kit, ada, parent))

    await patch(kit, child, ada, **WIDER)

    grant = await resolve(kit, child)
    assert (grant.scopes, grant.expires_at) == (BOUNDS["scopes"], START + 1000)
    assert grant.allowed_addresses == BOUNDS["allowed_addresses"]
    assert grant.parent_limits == [{"key": parent["id"], "limit": BOUNDS["limits"]}]


async def test_a_key_without_a_network_in_common_with_the_one_that_made_it_is_dead(
    kit: ObjectKit, ada: Principal
) -> None:
    parent = await make(kit, ada, **BOUNDS)
    child = await make(kit, await caller_with(kit, ada, parent))

    await patch(kit, child, ada, allowed_addresses=["192.0.2.0/24", "2001:db8::/32"])

    assert await code(resolve(kit, child)) == "not-found"


@pytest.mark.parametrize("end", ["revoke", "expire", "erase"])
async def test_a_key_is_dead_with_the_one_that_made_it(kit: ObjectKit, ada: Principal, end: str) -> None:
    parent = await make(kit, ada, expires_at=BOUNDS["expires_at"])
    child = await make(kit, await caller_with(kit, ada, parent))
    grandchild = await make(kit, await caller_with(kit, ada, child))
    await patch(kit, child, ada, expires_at=None)
    if end == "expire":
        kit.clock.advance(1000)
    elif end == "revoke":
        await kit.call("api_key", parent["id"], "revoke", caller=ada)
    else:
        await kit.call("api_key", parent["id"], "erase", caller=SERVICE)

    # Immediately, before everything has been deleted.
    for key in (child, grandchild):
        assert await code(resolve(kit, key)) == "not-found"


async def test_the_keys_that_a_key_has_made_are_deleted_after_it(
    kit: ObjectKit, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_key, "STEP", 2)
    parent, own = await make(kit, ada), await make(kit, ada)
    children = [await make(kit, await caller_with(kit, ada, parent)) for _ in range(5)]
    grandchild = await make(kit, await caller_with(kit, ada, children[0]))
    listed = await kit.query("api_key", "search", parent=parent["id"], caller=ada)

    await kit.call("api_key", parent["id"], "revoke", caller=ada)
    await kit.settle()

    left = await kit.query("api_key", "search", caller=ada)
    assert sorted(key["id"] for key in listed["items"]) == sorted(key["id"] for key in children)
    assert [key["id"] for key in left["items"]] == [own["id"]]
    changed = {subject.split(".")[2] for subject, *_ in kit.bus.events if subject.startswith("event.api_key.")}
    assert changed == {key["id"] for key in (parent, *children, grandchild)}


async def test_a_key_that_comes_as_the_one_that_makes_it_ends_goes_too(
    kit: ObjectKit, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await make(kit, ada)
    caller, known = await caller_with(kit, ada, parent), await resolve(kit, parent)
    await kit.call("api_key", parent["id"], "revoke", caller=ada)
    await kit.settle()

    async def looked_up_before(*args: Any) -> KeyGrant:
        return known

    with monkeypatch.context() as earlier:
        earlier.setattr(api_key.ApiKeyDO, "_load_grant", looked_up_before)
        late = await make(kit, caller)
    await kit.settle()

    assert await code(resolve(kit, late)) == "not-found"
    assert (await kit.query("api_key", "search", caller=ada))["items"] == []


async def test_keys_make_keys_for_some_generations(kit: ObjectKit, ada: Principal) -> None:
    key = await make(kit, ada)
    for _ in range(api_key.MAX_GENERATIONS - 1):
        key = await make(kit, await caller_with(kit, ada, key))

    assert await code(make(kit, await caller_with(kit, ada, key))) == "conflict"


PERMISSIONS = ["a:read", "b:read"]
VALUES = ["", "1", "2"]
some_scopes = st.lists(
    st.sampled_from(["*", *PERMISSIONS, *(f"{name}:id={value}" for name in PERMISSIONS for value in VALUES[1:])]),
    max_size=4,
)


@given(some_scopes, some_scopes, st.sets(st.sampled_from(PERMISSIONS)))
def test_what_two_lists_of_scopes_share_is_what_both_grant(one: list[str], other: list[str], held: set[str]) -> None:
    def granted(listed: list[str]) -> set[tuple[str, str]]:
        permissions, narrowed = scopes.grant(listed, frozenset(held))
        who = Principal("ada", permissions=permissions, narrowed=narrowed)
        wanted = itertools.product(PERMISSIONS, VALUES)
        return {(name, value) for name, value in wanted if who.has(name, **({"id": value} if value else {}))}

    assert granted(scopes.intersect(one, other)) == granted(one) & granted(other)
