"""The setting that requires a second factor: what users without one can do until they have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pyotp
import pytest

from aidevos import new_id
from aidevos.contracts.authentication import session_of
from aidevos.security import api_keys
from aidevos.security.access import Change
from aidevos.security.keys import load_public_keys
from aidevos.security.permissions import ROLES, Principal
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import Settings, SettingsError, load
from aidevos.testing import ObjectKit
from services.api_gateway.service import service as api_gateway
from tests.support.account_kits import PASSWORD, kit_of, login, owner, refresh, register, serve
from tests.support.kits import failure


@pytest.fixture
def required(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, mfa_required="admin, user")


@pytest.fixture
async def kit(required: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(required, api_gateway) as kit:
        await register(kit, new_id())
        yield kit


@pytest.fixture
def verifier(settings: Settings) -> TokenVerifier:
    return TokenVerifier(lambda: load_public_keys(settings.home), settings.public_url, lambda: 1_800_000_000.0)


def caller_of(verifier: TokenVerifier, pair: Any) -> Principal:
    return verifier.verify(f"Bearer {pair['access_token']}")


async def own(kit: ObjectKit, caller: Principal, method: str, **args: Any) -> Any:
    return await kit.call("session", caller.session, method, **args, caller=caller)


async def enrol(kit: ObjectKit, caller: Principal) -> str:
    secret: str = (await own(kit, caller, "begin_totp", password=PASSWORD))["secret"]
    await own(kit, caller, "confirm_totp", otp=pyotp.TOTP(secret).at(kit.clock.now()))
    kit.clock.advance(30)
    return secret


async def test_a_user_without_a_second_factor_can_only_set_one_up(kit: ObjectKit, verifier: TokenVerifier) -> None:
    pair = await login(kit)
    caller, user = caller_of(verifier, pair), pair["user"]["id"]

    assert pair["must_enrol"]
    assert (caller.permissions, caller.roles) == (frozenset(), ())
    assert (await failure(kit.call("user", user, "read", caller=caller))).code == "not-found"
    assert (await failure(kit.call("confirmation", user, "verify_email", caller=caller))).code == "not-found"
    assert (await failure(kit.query("api_key", "search", caller=caller))).code == "forbidden"
    assert not (await own(kit, caller, "me"))["mfa"]

    await enrol(kit, caller)
    full = await refresh(kit, pair)

    assert not full["must_enrol"]
    assert caller_of(verifier, full).subject == user
    assert caller_of(verifier, full).permissions == ROLES["user"]
    assert (await kit.call("user", user, "read", caller=caller_of(verifier, full)))["id"] == user


async def test_a_later_change_of_roles_grants_such_a_token_nothing(kit: ObjectKit, verifier: TokenVerifier) -> None:
    pair = await login(kit)

    verifier.change_access(pair["user"]["id"], Change(1_800_000_000.0, 99, ("admin",), active=True))

    assert caller_of(verifier, pair).permissions == frozenset()


async def test_such_a_token_is_good_for_its_own_session_alone(kit: ObjectKit, verifier: TokenVerifier) -> None:
    await register(kit, new_id(), "Bob", "bob@example.org", "b")
    pair, other, bobs = await login(kit), await login(kit), await login(kit, "Bob")
    caller = caller_of(verifier, pair)

    for foreign in (other, bobs):
        session = session_of(foreign["refresh_token"])
        assert (await failure(kit.call("session", session, "me", caller=caller))).code == "not-found"
    await own(kit, caller, "end")
    assert (await failure(refresh(kit, pair))).status == 401


async def test_nobody_turns_off_what_is_required(kit: ObjectKit, verifier: TokenVerifier) -> None:
    pair = await login(kit)
    secret = await enrol(kit, caller_of(verifier, pair))
    otp = pyotp.TOTP(secret).at(kit.clock.now())

    refused = await failure(own(kit, owner(await refresh(kit, pair)), "disable_totp", otp=otp))

    assert refused.code == "forbidden"
    assert (await failure(login(kit))).code == "mfa-required"


async def test_a_session_from_before_the_setting_is_limited_at_its_next_refresh(
    settings: Settings, required: Settings, verifier: TokenVerifier
) -> None:
    async with kit_of(settings) as before:
        await register(before, new_id())
        pair = await login(before)
        assert not pair["must_enrol"]
    async with kit_of(required, store=before.store, clock=before.clock) as kit:
        limited = await refresh(kit, pair)

        assert limited["must_enrol"]
        assert caller_of(verifier, limited).permissions == frozenset()
        # A repeat within the grace period gets the same pair.
        assert await refresh(kit, pair) == limited


async def test_a_role_that_requires_it_ends_the_sessions_of_a_user_without_one(
    settings: Settings, verifier: TokenVerifier
) -> None:
    admins = msgspec.structs.replace(settings, mfa_required="admin")
    async with kit_of(admins) as kit:
        for role in ROLES:
            await serve(kit, "role", role, "install")
        pairs = {}
        for name in ("Ada", "Bob"):
            await register(kit, new_id(), name, f"{name}@example.org", name)
            pairs[name] = await login(kit, name)
            assert not pairs[name]["must_enrol"]
        await enrol(kit, caller_of(verifier, pairs["Bob"]))

        for pair in pairs.values():
            await kit.call("user", pair["user"]["id"], "patch", patch={"roles": ["admin", "user"]})
        await kit.settle()

        assert (await failure(refresh(kit, pairs["Ada"]))).status == 401
        assert (await login(kit, "Ada"))["must_enrol"]
        assert not (await refresh(kit, pairs["Bob"]))["must_enrol"]


async def test_the_api_keys_of_a_user_without_one_are_dead_until_then(kit: ObjectKit, verifier: TokenVerifier) -> None:
    pair, id = await login(kit), new_id()
    ada = Principal(pair["user"]["id"], ("user",), ROLES["user"])
    args = {"name": "k", "scopes": ["*"]}
    made = await kit.call("api_key", id, "create", **args, caller=ada)
    hashed = {"hashed": api_keys.parse(made["key"]).hashed}

    assert (await failure(serve(kit, "api_key", id, "resolve", hashed))).code == "not-found"
    await enrol(kit, caller_of(verifier, pair))
    assert (await serve(kit, "api_key", id, "resolve", hashed))["owner"] == ada.subject


@pytest.mark.parametrize(
    ("setting", "must"), [("", False), ("admin", False), ("admin,user", True), (" user ", True), ("*", True)]
)
async def test_the_setting_names_roles_or_everyone(settings: Settings, setting: str, must: bool) -> None:
    loaded = msgspec.structs.replace(settings, mfa_required=load({"AIDEVOS_MFA_REQUIRED": setting}).mfa_required)
    async with kit_of(loaded) as kit:
        await register(kit, new_id())
        assert (await login(kit))["must_enrol"] == must


@pytest.mark.parametrize("setting", ["Admin", "*,admin", "admin,,user", "admin;user"])
def test_what_is_no_list_of_roles_is_refused(setting: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_MFA_REQUIRED"):
        load({"AIDEVOS_MFA_REQUIRED": setting})
