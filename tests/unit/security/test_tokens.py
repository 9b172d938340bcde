"""Access tokens: those that the verifier accepts, and every forgery that it refuses."""

from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aidevos.contracts.authentication import CLOCK_MARGIN
from aidevos.contracts.errors import Failure
from aidevos.security.key_ring import SigningKey
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from tests.support.forgeries import FORGERIES, Target, good, token

TARGET = Target(SigningKey("k", Ed25519PrivateKey.generate()), "https://fleet.test")


@pytest.fixture
def verifier() -> TokenVerifier:
    verifier = TokenVerifier(lambda: {TARGET.key.id: TARGET.key.private.public_key()}, TARGET.issuer)
    verifier.set_roles({})
    return verifier


def refusal(verifier: TokenVerifier, authorization: str | None) -> Failure:
    with pytest.raises(Failure) as caught:
        verifier.verify(authorization)
    assert caught.value.code == "unauthenticated"
    return caught.value


def test_what_the_issuer_makes_is_taken(verifier: TokenVerifier) -> None:
    made = TokenIssuer(TARGET.key, TARGET.issuer).issue("ada", roles=("user",), permissions=("x:y",), session="s")

    principal = verifier.verify(f"Bearer {made}")

    assert (principal.subject, principal.roles, principal.session) == ("ada", ("user",), "s")
    assert {"x:y", "data:read"} <= principal.permissions
    assert verifier.verify(f"bearer {made}") == principal


def test_the_forgeries_differ_from_a_token_that_is_taken(verifier: TokenVerifier) -> None:
    assert verifier.verify(f"Bearer {good(TARGET)}").has("anything")


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_also_the_second_time(verifier: TokenVerifier, name: str) -> None:
    forged = FORGERIES[name](TARGET)

    first, second = (refusal(verifier, f"Bearer {forged}") for _ in range(2))

    assert first.detail == second.detail
    assert first.detail in (
        "the token is not valid",
        "the token has expired",
        "the Authorization header must be: Bearer <token>",
    )


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_where_the_good_one_is_known(verifier: TokenVerifier, name: str) -> None:
    verifier.verify(f"Bearer {good(TARGET)}")

    refusal(verifier, f"Bearer {FORGERIES[name](TARGET)}")


@pytest.mark.parametrize(
    "shown",
    ["{}", "Basic {}", "Bearer{}", "Bearer  {}", "Bearer\t{}", "Bearer {} ", "Bearer {}=", "Bearer {}\n", "Bearer "],
)
def test_a_token_in_another_frame_is_refused(verifier: TokenVerifier, shown: str) -> None:
    refusal(verifier, shown.format(good(TARGET)))


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer é", "Bearer \0.\0.\0", "Bearer 世.界.x", "Bearer ..", " "]
)
def test_what_is_no_token_is_refused(verifier: TokenVerifier, shown: str | None) -> None:
    refusal(verifier, shown)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_clocks_may_differ_by_a_margin(verifier: TokenVerifier, claim: str) -> None:
    def shown(ahead: float) -> str:
        claims = TARGET.claims | {claim: time.time() + ahead}
        return f"Bearer {token(TARGET.header, claims, TARGET.key.private.sign)}"

    assert verifier.verify(shown(CLOCK_MARGIN - 5)).subject == "tester"
    refusal(verifier, shown(CLOCK_MARGIN + 5))


def test_a_cached_token_expires() -> None:
    now = time.time()
    clock = [now]
    verifier = TokenVerifier(lambda: {TARGET.key.id: TARGET.key.private.public_key()}, TARGET.issuer, lambda: clock[0])
    shown = f"Bearer {TokenIssuer(TARGET.key, TARGET.issuer).issue('ada', lifetime=60)}"
    assert verifier.verify(shown).subject == "ada"
    clock[0] = now + 61

    assert refusal(verifier, shown).detail == "the token has expired"
