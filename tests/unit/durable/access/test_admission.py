"""The caller that a stored credential stands for, some time after it was stored."""

from __future__ import annotations

import pytest

from aidevos.contracts.authentication import TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.security.access import Change
from tests.support.callers import API_KEY, DAY, NOW, USER, World


@pytest.fixture
def world() -> World:
    return World()


async def test_a_token_that_has_expired_since_counts(world: World) -> None:
    token = world.token()
    world.clock.advance(650)
    assert (await world.admission.admit_stored(token, NOW + 599)).subject == "ada"
    assert await world.refusal(token, NOW + 600) == "unauthenticated: the token has expired"
    assert (await world.admission.admit_stored(token, NOW + 599)).subject == "ada"
    assert world.fleet.asked == []


async def test_what_has_just_been_decided_counts_without_asking(world: World) -> None:
    token = world.token(version=1)
    world.clock.advance(650)
    world.verifier.change_access("ada", Change(NOW + 640, 2, ("admin",), active=True))
    assert (await world.admission.admit_stored(token, NOW)).has("users:manage")
    world.verifier.revoke("s", NOW + 645)
    assert await world.refusal(token, NOW) == "unauthenticated: the session has ended"
    world = World()
    world.clock.advance(650)
    world.verifier.change_access("ada", Change(NOW + 640, 2, ("user",), active=False))
    assert "no longer has access" in await world.refusal(token, NOW)


async def test_what_was_decided_long_ago_is_asked_for(world: World) -> None:
    token = world.token()
    world.clock.advance(TOKEN_LIFETIME)
    principal = await world.admission.admit_stored(token, NOW)
    assert (principal.roles, principal.session) == (("admin",), "s")
    assert world.fleet.asked == ["session.s.is_open", "user.ada.show"]
    world.fleet.user = USER | {"status": "deactivated"}
    assert (await world.refusal(token, NOW)).startswith("unauthenticated")
    world.fleet.user = Failure("not-found", "erased")
    assert (await world.refusal(token, NOW)).startswith("unauthenticated")
    world.fleet.user = Failure("unavailable", "away")
    assert (await world.refusal(token, NOW)).startswith("unavailable")
    world.fleet.open = False
    assert await world.refusal(token, NOW) == "unauthenticated: the session has ended"


async def test_a_token_that_no_login_has_made_counts_as_it_was(world: World) -> None:
    token = world.token(session="", permissions=("x:y",))
    world.clock.advance(3 * DAY)
    assert (await world.admission.admit_stored(token, NOW)).has("x:y")
    assert world.fleet.asked == []


@pytest.mark.parametrize("scheme", ["ApiKey", "Bearer", "bearer"])
async def test_an_api_key_that_has_expired_since_counts_and_one_that_is_gone_does_not(
    world: World, scheme: str
) -> None:
    key = f"{scheme} {API_KEY.text}"
    world.clock.advance(DAY)
    assert (await world.admission.admit_stored(key, NOW + 59)).key == API_KEY.id
    assert (await world.refusal(key, NOW + 60)).startswith("unauthenticated")
    world.fleet.key_ends = 0.0
    assert (await world.refusal(key, NOW + 59)).startswith("unauthenticated")


async def test_nobody_is_nobody(world: World) -> None:
    for nobody in (None, "", "Bearer x.y.z", "ApiKey adk_x", "Bearer adk_x", "Basic YTpi"):
        assert (await world.refusal(nobody, NOW)).startswith("unauthenticated")
