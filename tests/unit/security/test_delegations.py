"""Delegations: valid for one call, with the user's permissions at the time of the call, and for nothing else."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aidevos.contracts.authentication import CLOCK_MARGIN
from aidevos.contracts.errors import Failure
from aidevos.durable.base.clock import ManualClock
from aidevos.security import delegations
from aidevos.security.access import Change
from aidevos.security.delegations import DelegatedCall, Delegations, DelegationVerifier, Mandate
from aidevos.security.key_ring import SigningKey
from aidevos.security.mandates import load_mandate
from aidevos.security.permissions import Principal
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from tests.support.callers import GRANT, USER

ISSUER = "http://fleet.test"
NOW = 1_800_000_000.0
KEY = SigningKey("k", Ed25519PrivateKey.generate())
CALL = DelegatedCall("do.counter.c.increment", b'{"by": 2}', "r1")
ADA = Mandate("ada", ("user",), 4)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.tokens = TokenVerifier(lambda: {KEY.id: KEY.private.public_key()}, ISSUER, self.clock.now)
        self.verifier = DelegationVerifier(self.tokens, self.clock.now)

    def issue(
        self, mandate: Mandate = ADA, call: DelegatedCall = CALL, key: SigningKey = KEY, iss: str = ISSUER
    ) -> str:
        return Delegations(key, iss, "events", self.clock.now).authorization(mandate, call)

    def refused(self, authorization: str, call: DelegatedCall = CALL) -> str:
        with pytest.raises(Failure) as caught:
            self.verifier.verify(authorization, call)
        return caught.value.code


@pytest.fixture
def world() -> World:
    return World()


def test_the_call_that_it_names_is_made_with_the_users_rights(world: World) -> None:
    principal = world.verifier.verify(world.issue(), CALL)

    assert (principal.subject, principal.roles, principal.key) == ("ada", ("user",), "")
    assert principal.has("data:read")
    assert not principal.has("users:manage")


@pytest.mark.parametrize(
    "other",
    [
        DelegatedCall("do.counter.d.increment", CALL.payload, "r1"),
        DelegatedCall("do.counter.c.reset", CALL.payload, "r1"),
        DelegatedCall(CALL.subject, b'{"by": 3}', "r1"),
        DelegatedCall(CALL.subject, b"", "r1"),
        DelegatedCall(CALL.subject, CALL.payload, "r2"),
        DelegatedCall(CALL.subject, CALL.payload, ""),
    ],
    ids=["object", "method", "payload", "no payload", "request ID", "no request ID"],
)
def test_any_other_call_is_refused(world: World, other: DelegatedCall) -> None:
    assert world.refused(world.issue(), other) == "unauthenticated"


def test_it_is_over_soon(world: World) -> None:
    made = world.issue()
    world.clock.advance(delegations.LIFETIME - 0.1)
    world.verifier.verify(made, CALL)
    world.clock.advance(0.1)
    assert world.refused(made) == "unauthenticated"


def test_one_from_the_future_is_refused(world: World) -> None:
    world.clock.advance(CLOCK_MARGIN + 1)
    made = world.issue()
    world.clock.advance(-CLOCK_MARGIN - 1)
    assert world.refused(made) == "unauthenticated"


def test_a_user_who_was_deactivated_since_then_acts_no_more(world: World) -> None:
    made = world.issue()
    world.tokens.change_access("ada", Change(NOW, 5, ("user",), active=False))
    assert world.refused(made) == "unauthenticated"


def test_a_role_that_was_taken_away_since_then_counts_no_more(world: World) -> None:
    made = world.issue(Mandate("ada", ("admin",), 4))
    assert world.verifier.verify(made, CALL).has("users:manage")
    world.tokens.change_access("ada", Change(NOW, 5, ("user",), active=True))
    assert not world.verifier.verify(made, CALL).has("users:manage")


def test_a_change_that_the_mandate_knows_of_changes_nothing(world: World) -> None:
    made = world.issue(Mandate("ada", ("admin",), 5))
    world.tokens.change_access("ada", Change(NOW + 1, 5, ("user",), active=True))
    assert world.verifier.verify(made, CALL).has("users:manage")


def test_what_a_role_allows_is_what_it_allows_now(world: World) -> None:
    made = world.issue(Mandate("ada", ("keeper",), 4))
    assert world.refused(made) == "unavailable"
    world.tokens.set_roles({"keeper": frozenset({"shop:keep"})})
    assert world.verifier.verify(made, CALL).has("shop:keep")
    world.tokens.set_roles({"keeper": frozenset()})
    assert not world.verifier.verify(made, CALL).has("shop:keep")


def test_an_api_keys_scopes_bound_it(world: World) -> None:
    scopes = ("users:read", "data:read:collection=orders")
    principal = world.verifier.verify(world.issue(Mandate("ada", ("admin",), 4, key="k1", scopes=scopes)), CALL)

    assert principal.key == "k1"
    assert principal.permissions == {"users:read"}
    assert principal.has("data:read", collection="orders")
    assert not principal.has("data:read", collection="others")


def test_one_for_an_api_key_counts_no_more_once_the_key_was_changed(world: World) -> None:
    mandate = Mandate("ada", ("admin",), 4, key="k1", scopes=("users:read",))
    earlier, of_another = world.issue(mandate), world.issue(mandate._replace(key="k2"))
    world.clock.advance(1)
    world.verifier.change_key("k1", NOW + 0.5)

    assert world.refused(earlier) == "unauthenticated"
    assert world.verifier.verify(of_another, CALL).key == "k2"
    assert world.verifier.verify(world.issue(mandate), CALL).key == "k1"


def test_one_for_an_api_key_counts_no_more_once_a_key_was_changed_that_made_it(world: World) -> None:
    mandate = Mandate("ada", ("admin",), 4, key="k1", scopes=("users:read",), key_parents=("k2", "k3"))
    earlier = world.issue(mandate)
    world.verifier.verify(earlier, CALL)
    world.clock.advance(1)
    world.verifier.change_key("k3", NOW + 0.5)

    assert world.refused(earlier) == "unauthenticated"
    assert world.verifier.verify(world.issue(mandate), CALL).key == "k1"


def test_an_api_key_of_a_project_counts_there_alone(world: World) -> None:
    principal = world.verifier.verify(world.issue(Mandate("ada", ("admin",), 4, key="k1", project="p1")), CALL)
    assert principal.project == "p1"


def test_nobody_acts_for_a_service(world: World) -> None:
    assert world.refused(world.issue(Mandate("service:x", ("service",)))) == "unauthenticated"
    world.tokens.change_access("ada", Change(NOW, 5, ("service",), active=True))
    assert world.refused(world.issue()) == "unauthenticated"


def test_it_is_no_access_token_and_an_access_token_is_none(world: World) -> None:
    made = world.issue()
    token = made.removeprefix(delegations.SCHEME)
    for authorization in (made, f"Bearer {token}"):
        with pytest.raises(Failure) as caught:
            world.tokens.verify(authorization)
        assert caught.value.code == "unauthenticated"
    access = TokenIssuer(KEY, ISSUER, world.clock.now).issue("ada", roles=("admin",))
    assert world.refused(f"{delegations.SCHEME}{access}") == "unauthenticated"


def test_forgeries_are_refused(world: World) -> None:
    other = SigningKey("k", Ed25519PrivateKey.generate())
    assert world.refused(world.issue(key=other)) == "unauthenticated"
    assert world.refused(world.issue(iss="http://other.test")) == "unauthenticated"
    assert world.refused(delegations.SCHEME) == "unauthenticated"
    assert world.refused(f"{delegations.SCHEME}{'x' * 10_000}") == "unauthenticated"
    for changed in ({"aud": "aidevos"}, {"sub": ""}, {"errand": None}, {"roles": 1}):
        assert world.refused(_with(world.issue(), changed)) == "unauthenticated"


def _with(made: str, changed: dict[str, Any]) -> str:
    token = made.removeprefix(delegations.SCHEME)
    claims = jwt.decode(token, options={"verify_signature": False}) | changed
    signed = jwt.encode(claims, KEY.private, "EdDSA", headers={"kid": "k", "typ": delegations.TYPE}, sort_headers=True)
    return delegations.SCHEME + signed


def test_a_delegation_that_was_signed_again_unchanged_is_taken(world: World) -> None:
    principal = world.verifier.verify(_with(world.issue(), {}), CALL)
    assert isinstance(principal, Principal)


def answering(answer: Any) -> Any:
    async def call(type: str, id: str, method: str) -> Any:
        if isinstance(answer, Failure):
            raise answer
        assert (type, id, method) in (("user", "ada", "show"), ("api_key", "k1", "grant"))
        return answer

    return call


async def test_a_mandate_is_what_the_user_is_today() -> None:
    assert await load_mandate(answering(USER), "ada") == Mandate("ada", ("user",), 7)
    made = await load_mandate(answering(GRANT), "ada", "k1")
    assert made == Mandate("ada", ("user",), 7, key="k1", scopes=("data:read",))
    child = await load_mandate(answering(GRANT | {"parents": ["k0"]}), "ada", "k1")
    assert child == made._replace(key_parents=("k0",))


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("", USER | {"status": "deactivated"}),
        ("", Failure("not-found", "no user")),
        ("k1", GRANT | {"owner": "bob"}),
        ("k1", Failure("not-found", "no key")),
        ("k1", Failure("forbidden", "only users can have API keys")),
    ],
    ids=["inactive", "erased", "another's key", "revoked key", "owner erased"],
)
async def test_there_is_no_mandate_of_who_has_no_access_today(key: str, answer: Any) -> None:
    with pytest.raises(Failure) as caught:
        await load_mandate(answering(answer), "ada", key)
    assert caught.value.code == "unauthenticated"


async def test_whether_there_is_a_mandate_may_be_unknown() -> None:
    with pytest.raises(Failure) as caught:
        await load_mandate(answering(Failure("unavailable", "away")), "ada")
    assert caught.value.code == "unavailable"
