"""Who ends the sessions of other users: an administrator's, administrators alone."""

from __future__ import annotations

from typing import Any

import pytest

from aidevos.contracts.authentication import session_of
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN
from tests.support.account_kits import kit_of, login, owner, refresh, register, serve
from tests.support.kits import failure

HELPER = Principal("helper", ("helper",), frozenset({"users:read", "users:manage"}))


async def end(kit: ObjectKit, method: str, pair: Any, caller: Principal) -> None:
    args = {"session": session_of(pair["refresh_token"])} if method == "end_session" else {}
    await kit.call("user", pair["user"]["id"], method, **args, caller=caller)
    await kit.settle()


@pytest.mark.parametrize("method", ["end_session", "end_sessions"])
async def test_an_administrators_sessions_are_ended_by_administrators_alone(settings: Settings, method: str) -> None:
    async with kit_of(settings) as kit:
        await serve(kit, "user", "chief", "install", {"username": "chief", "password": "short"})
        await register(kit, "0190" + "a" * 28)
        chief, again, ada = await login(kit, "chief", "short"), await login(kit, "chief", "short"), await login(kit)

        refused = await failure(end(kit, method, chief, HELPER))
        await end(kit, method, ada, HELPER)

        assert refused.code == "forbidden"
        assert (await failure(refresh(kit, ada))).status == 401
        chief = await refresh(kit, chief)
        await end(kit, method, chief, ADMIN)
        assert (await failure(refresh(kit, chief))).status == 401
        if method == "end_session":
            await end(kit, method, again, owner(again))
        assert (await failure(refresh(kit, again))).status == 401
