"""Tokens whose revocation this process may have missed, and tokens with a record: they are looked up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aidevos.contracts.authentication import CLOCK_MARGIN, enrolment_subject
from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import KEY_TTL
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.security.access import Change
from aidevos.security.delegations import DelegatedCall, Delegations, DelegationVerifier, Mandate
from aidevos.security.permissions import Principal
from aidevos.security.tokens import TokenIssuer
from tests.support.callers import API_KEY, DAY, ISSUER, KEY, NOW, USER, World
from tests.support.kits import failure

SESSION = ["session.s.is_open", "user.ada.show"]
RECORD = ["access_token.r.resolve"]


@pytest.fixture
def world() -> World:
    return World()


async def caller(world: World, authorization: str) -> Principal:
    return await resolve_when_ready(world.admission.authenticate, authorization, "")


def lose_events(world: World, known_since: float) -> None:
    assert world.verifier.forget_before(known_since)
    world.admission.forget_all()


class TestSessions:
    async def test_a_token_from_before_a_gap_is_looked_up_once_and_has_the_roles_of_now(self, world: World) -> None:
        token = world.token()
        assert not (await caller(world, token)).has("users:manage")
        lose_events(world, NOW + 1)

        callers = await asyncio.gather(*(caller(world, token) for _ in range(5)))
        again = world.admission.authenticate(token, "")

        assert {each.roles for each in [*callers, again]} == {("admin",)}
        assert again.expires_at == NOW + 600
        assert world.fleet.asked == SESSION

    async def test_a_token_from_after_a_gap_needs_no_look_up(self, world: World) -> None:
        lose_events(world, NOW - CLOCK_MARGIN - 1)

        assert world.admission.authenticate(world.token(), "").subject == "ada"
        assert world.fleet.asked == []

    async def test_an_ended_session_is_refused_and_looked_up_once(self, world: World) -> None:
        world.fleet.open = False
        token = world.token()
        lose_events(world, NOW)

        for _ in range(3):
            assert (await failure(caller(world, token))).detail == "the session has ended"
        assert world.fleet.asked == SESSION[:1]

    async def test_a_token_for_its_session_alone_stays_that(self, world: World) -> None:
        subject = enrolment_subject("s")
        issuer = TokenIssuer(KEY, ISSUER, world.clock.now)
        token = f"Bearer {issuer.issue(subject, session='s')}"
        lose_events(world, NOW)

        principal = await caller(world, token)

        assert (principal.subject, principal.roles, principal.session) == (subject, (), "s")
        assert world.fleet.asked == SESSION[:1]

    async def test_a_deactivated_user_is_refused(self, world: World) -> None:
        world.fleet.user = USER | {"status": "deactivated"}
        token = world.token()
        lose_events(world, NOW)

        assert (await failure(caller(world, token))).code == "unauthenticated"

    async def test_nobody_is_logged_out_while_nothing_can_be_looked_up(self, world: World) -> None:
        token, user = world.token(), world.fleet.user
        lose_events(world, NOW)
        world.fleet.user = Failure("unavailable", "away")
        refused = await failure(caller(world, token))
        world.fleet.user = user

        assert refused.code == "unavailable"
        assert (await caller(world, token)).subject == "ada"

    async def test_changes_after_the_look_up_count(self, world: World) -> None:
        token = world.token(version=1)
        lose_events(world, NOW)
        await caller(world, token)

        world.verifier.change_access("ada", Change(NOW, USER["version"] + 1, ("user",), active=True))
        assert not world.admission.authenticate(token, "").has("users:manage")
        world.verifier.revoke("s", NOW)
        with pytest.raises(Failure, match="has ended"):
            world.admission.authenticate(token, "")

    async def test_a_second_gap_repeats_the_look_up_also_one_in_progress(self, world: World) -> None:
        token = world.token()
        lose_events(world, NOW)
        waiting = asyncio.create_task(caller(world, token))
        call = world.fleet.call

        async def overtaken(*args: Any, **options: Any) -> Any:
            world.fleet.call = call  # type: ignore[method-assign]
            reply = await call(*args, **options)
            lose_events(world, NOW + 1)
            return reply

        world.fleet.call = overtaken  # type: ignore[method-assign]
        await waiting

        assert world.fleet.asked == SESSION * 2

    async def test_the_same_gap_is_news_only_once(self, world: World) -> None:
        assert world.verifier.forget_before(NOW)
        assert not world.verifier.forget_before(NOW)
        assert not world.verifier.forget_before(NOW - 1)

    async def test_a_stored_request_is_looked_up_too(self, world: World) -> None:
        token = world.token()
        lose_events(world, NOW)
        world.clock.advance(650)

        assert (await world.admission.admit_stored(token, NOW + 599)).roles == ("admin",)
        world.fleet.open = False
        assert await world.refusal(token, NOW) == "unauthenticated: the session has ended"


async def test_a_gap_drops_the_known_keys(world: World) -> None:
    world.fleet.key_ends = NOW + 2 * DAY
    shown = f"ApiKey {API_KEY.text}"
    await caller(world, shown)
    world.admission.authenticate(shown, "")
    lose_events(world, NOW)

    with pytest.raises(NotReady):
        world.admission.authenticate(shown, "")


def test_a_delegation_from_before_a_gap_is_to_be_made_again(world: World) -> None:
    errand = DelegatedCall("do.counter.c.value", b"{}", "r")
    keys: Any = type("Keys", (), {"at": lambda self, now: KEY})()
    delegations = Delegations(keys, ISSUER, "projects", world.clock.now)
    verifier = DelegationVerifier(world.verifier, world.clock.now)
    old = delegations.authorization(Mandate("ada", ("user",)), errand)
    world.verifier.forget_before(NOW)
    world.clock.advance(1)

    with pytest.raises(Failure, match="lost") as refused:
        verifier.verify(old, errand)
    assert refused.value.retryable
    assert verifier.verify(delegations.authorization(Mandate("ada", ("user",)), errand), errand).subject == "ada"


class TestRecords:
    """A token with a record may live for years, so no process remembers each revocation."""

    @pytest.fixture
    def token(self, world: World) -> str:
        return world.token(session="", record="r", lifetime=2 * DAY, permissions=("x:y",))

    async def test_it_is_looked_up_at_its_first_use_and_again_a_minute_later(self, world: World, token: str) -> None:
        callers = await asyncio.gather(*(caller(world, token) for _ in range(3)))
        world.clock.advance(KEY_TTL - 1)
        world.admission.authenticate(token, "")
        asked = list(world.fleet.asked)
        world.clock.advance(1)
        callers.append(await caller(world, token))

        assert {(each.roles, each.has("x:y"), each.session) for each in callers} == {(("user",), True, "")}
        assert (asked, world.fleet.asked) == (RECORD, RECORD * 2)

    async def test_it_is_refused_once_it_was_revoked(self, world: World, token: str) -> None:
        await caller(world, token)
        world.fleet.grant = Failure("not-found", "revoked")
        world.admission.authenticate(token, "")
        world.admission.invalidate("r", NOW)

        refused = await failure(caller(world, token))

        assert (refused.code, refused.detail) == ("unauthenticated", "the token was revoked")

    async def test_it_has_the_roles_that_its_user_has_now(self, world: World, token: str) -> None:
        world.fleet.grant = {"roles": ["admin"], "version": 7}

        assert (await caller(world, token)).has("users:manage")
        world.verifier.change_access("ada", Change(NOW, 8, ("user",), active=True))
        assert not world.admission.authenticate(token, "").has("users:manage")

    async def test_it_ends_by_itself(self, world: World, token: str) -> None:
        await caller(world, token)
        world.clock.advance(2 * DAY)

        assert (await failure(caller(world, token))).detail == "the token has expired"
        assert world.fleet.asked == RECORD

    async def test_a_stored_request_with_it_counts_until_it_is_revoked(self, world: World, token: str) -> None:
        world.clock.advance(3 * DAY)
        assert (await world.admission.admit_stored(token, NOW + DAY)).has("x:y")
        world.fleet.grant = Failure("not-found", "revoked")
        assert await world.refusal(token, NOW + DAY) == "unauthenticated: the token was revoked"
