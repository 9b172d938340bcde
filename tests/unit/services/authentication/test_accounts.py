"""The accounts' rules in one process: the saga of a registration, rotation, and data at rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aidevos import new_id
from aidevos.contracts.authentication import account_id, session_of
from aidevos.contracts.rate_limits import address_quota
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import Settings, load
from aidevos.testing import ObjectKit
from services.api_gateway.quota import QuotaDO
from services.authentication import account
from services.authentication.rules import MAX_SESSIONS, SessionEntry, find_surplus_sessions
from tests.support.account_kits import (
    EMAIL,
    NAME,
    OPEN,
    PASSWORD,
    from_address,
    kit_of,
    login,
    owner,
    refresh,
    register,
    serve,
)
from tests.support.kits import crash, failure, until

# Commits of a registration: the address, the username, the user.
COMMITS = 3


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(COMMITS))
async def test_a_registration_that_dies_at_any_commit_can_be_repeated(
    settings: Settings, commit: int, fate: str
) -> None:
    store, id = await crash_at(settings, commit, fate)

    async with kit_of(settings, store=store) as successor:
        user = await register(successor, id)
        await successor.settle()

        assert user["username"] == NAME
        for name in (NAME, EMAIL):
            assert (await login(successor, name))["user"] == user
        assert (await failure(register(successor, new_id(), request="s"))).code == "exists"


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(COMMITS))
async def test_a_registration_that_dies_at_any_commit_keeps_no_name_from_others(
    settings: Settings, commit: int, fate: str
) -> None:
    store, id = await crash_at(settings, commit, fate)
    came_to_be = commit == COMMITS - 1 and fate == "applied"

    async with kit_of(settings, store=store) as successor:
        other = new_id()
        if came_to_be:
            assert (await failure(register(successor, other, request="s"))).field == "args.email"
            assert (await login(successor))["user"]["id"] == id
            return
        assert (await failure(login(successor))).status == 401
        assert (await register(successor, other, request="s"))["id"] == other
        assert (await failure(register(successor, id))).code == "exists"
        assert (await failure(serve(successor, "user", id, "show"))).code == "not-found"
        assert (await login(successor, EMAIL))["user"]["id"] == other


async def crash_at(settings: Settings, commit: int, fate: str) -> tuple[Any, str]:
    """Crash a process during this commit of a registration, which is applied or lost; return the store and user ID."""
    gate, id = asyncio.Event(), new_id()
    async with kit_of(settings) as kit:
        kit.store.faults.extend([OPEN] * commit + [gate])
        registering = asyncio.create_task(register(kit, id))
        await until(lambda: not kit.store.faults)
        if fate == "lost":
            kit.store.down = True
        gate.set()
        await until(lambda: kit.store.commits > commit)
        await crash(kit)
        registering.cancel()
        await asyncio.gather(registering, return_exceptions=True)
        kit.store.down = False
        return kit.store, id


async def test_a_refused_registration_gives_the_other_name_back(kit: ObjectKit) -> None:
    await register(kit, new_id())
    refused = await failure(register(kit, new_id(), email="new@example.org"))

    assert (refused.code, refused.field) == ("exists", "args.username")
    assert (await register(kit, new_id(), "Eve", "new@example.org"))["username"] == "Eve"


async def test_a_user_who_logs_in_and_is_erased_at_once_waits_for_nothing(kit: ObjectKit) -> None:
    id = new_id()
    await register(kit, id)
    erasing = {"password": PASSWORD, "caller": owner(await login(kit))}

    async with asyncio.timeout(5):
        _, erased = await asyncio.gather(login(kit), kit.call("user", id, "erase", **erasing), return_exceptions=True)

    assert erased is None
    await kit.settle()
    assert (await failure(login(kit))).status == 401


async def test_a_name_that_two_register_at_once_is_soon_free_if_the_first_fails(
    kit: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "HOLDER_TIMEOUT", 0.1)
    await register(kit, new_id(), "Ada", "ada@example.org")

    async with asyncio.timeout(5):
        # The first has the address, and finds the name taken. The second asks the first whether it keeps the address.
        taken, registered = await asyncio.gather(
            failure(register(kit, new_id(), "Ada", "new@example.org")),
            register(kit, new_id(), "Eve", "new@example.org", request="s"),
        )

    assert (taken.code, registered["username"]) == ("exists", "Eve")


async def test_secrets_are_at_rest_nowhere(kit: ObjectKit) -> None:
    await register(kit, new_id())
    pair = await login(kit, EMAIL)
    second = await refresh(kit, pair)
    await failure(login(kit, password="another secret"))
    await kit.settle()

    stored = repr(kit.store.documents) + repr(kit.letters) + repr(vars(kit.bus))
    assert NAME in stored
    for secret in (PASSWORD, "another secret", pair["refresh_token"], pair["access_token"], second["refresh_token"]):
        assert secret not in stored
        assert secret.rpartition(".")[2] not in stored


async def test_the_grace_ends_and_with_it_the_session(kit: ObjectKit) -> None:
    await register(kit, new_id())
    first = await login(kit)
    second = await refresh(kit, first)
    kit.clock.advance(9.9)
    assert await refresh(kit, first) == second
    kit.clock.advance(0.2)

    assert (await failure(refresh(kit, first))).status == 401
    await kit.settle()
    assert (await failure(refresh(kit, second))).status == 401
    assert await serve(kit, "auth", account_id(NAME), "sessions") == {"items": []}
    ended = f"event.session.{session_of(first['refresh_token'])}.session_ended"
    assert [subject for subject, *_ in kit.bus.events] == [ended]


async def test_the_last_pair_is_the_same_after_a_crash(settings: Settings) -> None:
    async with kit_of(settings) as kit:
        await register(kit, new_id())
        first = await login(kit)
        second = await refresh(kit, first)
        await kit.settle()
        await crash(kit)
        async with kit_of(settings, store=kit.store, clock=kit.clock) as successor:
            assert await refresh(successor, first) == second


async def test_an_unused_session_expires(kit: ObjectKit, settings: Settings) -> None:
    await register(kit, new_id())
    pair = await login(kit)
    kit.clock.advance(settings.refresh_age)

    assert (await failure(refresh(kit, pair))).status == 401
    await login(kit)
    await kit.settle()
    assert len((await serve(kit, "auth", account_id(NAME), "sessions"))["items"]) == 1


async def test_the_throttle_opens_again(kit: ObjectKit, settings: Settings) -> None:
    await register(kit, new_id())
    for _ in range(settings.login_failures):
        assert (await failure(login(kit, password="wrong"))).status == 401
    refused = await failure(login(kit))
    kit.clock.advance(settings.login_window)

    assert (refused.code, refused.retry_after) == ("rate-limited", 60)
    assert await login(kit)


async def test_no_restart_grants_further_attempts_and_a_success_costs_no_commit_more(
    settings: Settings, kit: ObjectKit
) -> None:
    commits: list[str] = []
    commit = kit.store.commit

    async def counted(type: str, batch: Any) -> Any:
        commits.append(type)
        return await commit(type, batch)

    await register(kit, new_id())
    for _ in range(settings.login_failures - 1):
        assert (await failure(login(kit, password="wrong"))).status == 401
    kit.store.commit = counted
    await login(kit)
    del kit.store.commit
    # The success has cleared the failures before it, in the commit that opens the session.
    assert commits.count("auth") == 1
    await kit.settle()
    await crash(kit)
    for _ in range(settings.login_failures):
        async with kit_of(settings, store=kit.store, clock=kit.clock) as restarted:
            assert (await failure(login(restarted, password="wrong"))).status == 401

    async with kit_of(settings, store=kit.store, clock=kit.clock) as successor:
        assert (await failure(login(successor))).code == "rate-limited"
        successor.clock.advance(settings.login_window)
        assert await login(successor)


async def test_failures_with_a_name_that_nobody_has_are_counted_and_soon_forgotten(
    settings: Settings, kit: ObjectKit
) -> None:
    for _ in range(settings.login_failures):
        assert (await failure(login(kit))).status == 401
    assert (await failure(login(kit))).code == "rate-limited"
    await register(kit, new_id(), "Bob", "bob@example.org")
    assert (await failure(login(kit, "Bob", password="wrong"))).status == 401

    await kit.advance(settings.login_window)
    await kit.settle()

    documents = kit.store.documents["auth"]
    assert "state" not in documents[account_id(NAME)]
    assert documents[account_id("Bob")]["state"]["failures"]
    assert await login(kit, "Bob")
    assert documents[account_id("Bob")]["state"]["failures"] == {}


async def test_strangers_who_fail_on_purpose_lock_out_strangers_alone(kit: ObjectKit, settings: Settings) -> None:
    home, stranger = from_address("2001:db8::1"), from_address("192.0.2.66")
    await register(kit, new_id())
    await login(kit, headers=home)
    for _ in range(settings.login_failures):
        assert (await failure(login(kit, password="wrong", headers=stranger))).status == 401

    assert (await failure(login(kit, headers=stranger))).code == "rate-limited"
    assert (await failure(login(kit, EMAIL, headers=from_address("192.0.2.67")))).code == "rate-limited"
    # Another address in the network from which the user has logged in.
    assert await login(kit, headers=from_address("2001:db8::2"))
    for _ in range(settings.login_failures):
        assert (await failure(login(kit, password="wrong", headers=home))).status == 401
    assert (await failure(login(kit, headers=home))).code == "rate-limited"


async def test_a_deactivated_account_is_throttled_like_any_other(kit: ObjectKit, settings: Settings) -> None:
    id = new_id()
    await register(kit, id)
    await kit.call("user", id, "deactivate", caller=Principal("admin", ("admin",), frozenset({"*"})))

    codes = [(await failure(login(kit))).code for _ in range(settings.login_failures + 1)]

    assert codes == ["unauthenticated"] * settings.login_failures + ["rate-limited"]


async def test_one_address_logs_in_and_registers_so_often_in_a_minute_and_others_go_on(settings: Settings) -> None:
    narrow = load({"AIDEVOS_ADDRESS_LOGINS": "2", "AIDEVOS_ADDRESS_REGISTRATIONS": "1"}, home=settings.home)
    async with kit_of(narrow) as kit:
        here, there = from_address("192.0.2.1"), from_address("192.0.2.2")
        await register(kit, new_id(), headers=here)
        refused = await failure(register(kit, new_id(), "Bob", "bob@example.org", "s", headers=here))
        await register(kit, new_id(), "Bob", "bob@example.org", "t", headers=there)
        # Also by the e-mail address, which leads to another object.
        await login(kit, headers=here)
        await login(kit, EMAIL, headers=here)
        throttled = await failure(login(kit, "Bob", headers=here))

        assert (refused.code, throttled.code, throttled.retry_after) == ("rate-limited", "rate-limited", 60)
        await login(kit, headers=there)
        await login(kit)
        kit.clock.advance(settings.login_window)
        await login(kit, headers=here)


async def test_attempts_that_reached_other_hosts_count_for_their_address(settings: Settings) -> None:
    narrow = load({"AIDEVOS_ADDRESS_LOGINS": "3", "AIDEVOS_ADDRESS_REGISTRATIONS": "3"}, home=settings.home)
    async with kit_of(narrow, QuotaDO) as kit:
        here = from_address("192.0.2.1")
        await register(kit, new_id())
        quota = address_quota("192.0.2.1")
        elsewhere = {"kind": "logins", "limit": 3, "window": narrow.login_window}
        waits = [await serve(kit, "quota", quota, "attempt", elsewhere) for _ in range(2)]
        await login(kit, headers=here)

        assert waits == [0.0, 0.0]
        assert (await failure(login(kit, headers=here))).code == "rate-limited"
        assert await serve(kit, "quota", quota, "attempt", elsewhere) == narrow.login_window
        (stored,) = (await kit.store.read("quota", [quota])).values()
        # However many attempts there are, the object is stored once, by its first request.
        assert stored.version == 1


async def test_a_session_tells_the_address_that_it_began_at(kit: ObjectKit) -> None:
    await register(kit, new_id())
    pair = await login(kit, EMAIL, headers=from_address("192.0.2.1"))

    page = await kit.call("session", session_of(pair["refresh_token"]), "sessions", caller=owner(pair))

    assert [item["address"] for item in page["items"]] == ["192.0.2.1"]


async def test_a_hash_is_renewed_at_the_login_after_parameters_have_risen(kit: ObjectKit, settings: Settings) -> None:
    await register(kit, new_id())
    raised = load({"AIDEVOS_PASSWORD_TIME": "3"}, home=settings.home)
    async with kit_of(raised, store=kit.store, clock=kit.clock) as successor:
        await login(successor)
        await successor.settle()

        assert "t=3" in kit.store.documents["auth"][account_id(NAME)]["state"]["hashed"]
        assert await login(successor)


async def test_registration_can_be_closed(settings: Settings) -> None:
    closed = load({"AIDEVOS_REGISTRATION": "false"}, home=settings.home)
    async with kit_of(closed) as kit:
        assert (await failure(register(kit, new_id()))).code == "forbidden"
        await serve(kit, "user", new_id(), "install", {"username": "admin", "password": "short"})
        assert (await login(kit, "admin", "short"))["user"]["roles"] == ["admin"]


async def test_a_session_is_nobody_elses(kit: ObjectKit) -> None:
    await register(kit, new_id())
    pair = await login(kit)
    session = session_of(pair["refresh_token"])
    for method in ("end", "end_all", "sessions", "me"):
        refused = await failure(kit.call("session", session, method, caller=Principal("stranger")))
        assert refused.code == "not-found"
        anonymous = await failure(kit.call("session", session, method, caller=ANONYMOUS))
        assert anonymous.status in (401, 403)

    assert (await kit.call("session", session, "me", caller=owner(pair)))["session"] == session


def test_expired_and_excess_sessions_make_room() -> None:
    used = {f"{number:03}": SessionEntry("", 0.0, float(number)) for number in range(MAX_SESSIONS)}

    assert find_surplus_sessions({}, 0.0, 10.0) == []
    assert find_surplus_sessions(used, 0.0, 1000.0) == ["000"]
    assert find_surplus_sessions(used, 12.0, 10.0) == ["000", "001", "002"]
