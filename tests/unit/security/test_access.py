"""Tokens after their issue: ended sessions, changed access, changed roles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.durable.base.clock import ManualClock
from aidevos.security import tokens
from aidevos.security.access import Access, Change, Claims
from aidevos.security.key_ring import SigningKey
from aidevos.security.permissions import ROLES
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from aidevos.settings import SettingsError, load

ISSUER = "http://fleet.test"
NOW = 1_800_000_000.0
KEY = SigningKey("k", Ed25519PrivateKey.generate())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def verifier(clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(lambda: {KEY.id: KEY.private.public_key()}, ISSUER, clock.now)


def token(
    *roles: str, at: float = NOW, version: int | None = None, permissions: tuple[str, ...] = (), subject: str = "ada"
) -> str:
    issuer = TokenIssuer(KEY, ISSUER)
    issued = issuer.issue(subject, roles=roles, permissions=permissions, issued_at=at, version=version, session="s")
    return f"Bearer {issued}"


def changed(*roles: str, at: float = NOW, version: int = 5, active: bool = True) -> Change:
    return Change(at, version, roles, active)


def refused(verifier: TokenVerifier, authorization: str) -> str:
    with pytest.raises(Failure) as caught:
        verifier.verify(authorization)
    return caught.value.code


def test_a_cached_token_from_before_a_change_counts_with_the_new_roles(verifier: TokenVerifier) -> None:
    old = token("admin", version=4, permissions=("x:y",))
    assert verifier.verify(old).has("anything:at_all")

    verifier.change_access("ada", changed("user"))

    principal = verifier.verify(old)
    assert principal.roles == ("user",)
    assert principal.permissions == ROLES["user"] | {"x:y"}
    assert verifier.verify(old) is principal


@pytest.mark.parametrize("version", [5, 6])
def test_a_token_from_after_a_change_counts_with_its_own_roles_in_the_same_second_too(
    verifier: TokenVerifier, version: int
) -> None:
    verifier.change_access("ada", changed("user", at=NOW + 0.9))

    assert verifier.verify(token("admin", version=version, at=NOW)).roles == ("admin",)


@pytest.mark.parametrize(("at", "roles"), [(NOW - 1, ("user",)), (NOW, ("user",)), (NOW + 1, ("admin",))])
def test_a_token_without_a_version_counts_by_its_time_and_of_the_same_second_as_from_before(
    verifier: TokenVerifier, at: float, roles: tuple[str, ...]
) -> None:
    verifier.change_access("ada", changed("user", at=NOW + 0.2))

    assert verifier.verify(token("admin", at=at)).roles == roles


def test_the_old_tokens_of_an_inactive_user_are_refused_and_nobody_elses(verifier: TokenVerifier) -> None:
    old, others = token("user", version=4), token("user", version=4, subject="eve")
    verifier.verify(old)
    verifier.verify(others)

    verifier.change_access("ada", changed("user", active=False))

    assert refused(verifier, old) == refused(verifier, old) == "unauthenticated"
    assert verifier.verify(others).roles == ("user",)


def test_an_earlier_change_that_is_read_again_undoes_no_later_one(verifier: TokenVerifier) -> None:
    verifier.change_access("ada", changed("user", version=6))
    verifier.change_access("ada", changed("admin", version=5))

    assert verifier.verify(token("admin", version=4)).roles == ("user",)


def test_a_role_allows_what_it_allows_now_and_once_it_is_gone_nothing(verifier: TokenVerifier) -> None:
    clerk = token("user", "clerk")
    assert refused(verifier, clerk) == "unavailable"

    granted = []
    for roles in ({"clerk": frozenset({"users:read"})}, {"clerk": frozenset({"users:manage"})}, {}):
        verifier.set_roles(roles)
        granted.append(verifier.verify(clerk).permissions - ROLES["user"])

    assert granted == [{"users:read"}, {"users:manage"}, set()]


def test_no_custom_role_redefines_one_that_is_built_in(verifier: TokenVerifier) -> None:
    verifier.set_roles({"user": frozenset({"*"}), "service": frozenset({"*"})})

    assert verifier.verify(token("user")).permissions == ROLES["user"]
    assert verifier.verify(token("service")).permissions == frozenset()


def test_tokens_of_built_in_roles_need_no_list_of_roles(verifier: TokenVerifier) -> None:
    assert verifier.verify(token("admin")).has("x:y")


def test_a_change_is_kept_for_as_long_as_tokens_from_before_it_live_and_no_longer(
    clock: ManualClock, verifier: TokenVerifier
) -> None:
    verifier.change_access("ada", changed("user", at=clock.now()))
    clock.advance(TOKEN_LIFETIME + CLOCK_MARGIN - 1)
    verifier.change_access("eve", changed("user", at=clock.now()))
    assert verifier.verify(token("admin", version=4, at=NOW + CLOCK_MARGIN)).roles == ("user",)
    clock.advance(2)
    verifier.change_access("bob", changed("user", at=clock.now()))

    assert list(verifier._access._changes.known) == ["eve", "bob"]


def test_past_the_bound_the_tokens_from_before_what_was_forgotten_are_refused(clock: ManualClock) -> None:
    access = Access(clock.now, limit=2)
    for number, user in enumerate(["a", "b", "c"]):
        access.change(user, changed("user", at=NOW + number))
        access.end_session(user, NOW + number)

    def outcome(subject: str, issued_at: float, session: str = "") -> str:
        claims = Claims(subject, ("admin",), frozenset(), NOW + 900, issued_at, session, 9)
        try:
            return access.judge(claims).roles[0]
        except Failure as failure:
            return failure.code

    assert len(access._changes.known) == len(access.ended_sessions) == 2
    assert outcome("a", NOW) == outcome("z", NOW) == "unauthenticated"
    assert outcome("a", NOW + 1) == outcome("z", NOW + 1) == "admin"
    assert outcome("service:objects", NOW) == "admin"
    assert outcome("service:objects", NOW, session="a") == "unauthenticated"


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tokens, "CACHE_LIMIT", 3)
    return


@pytest.mark.usefixtures("small_cache")
def test_the_cache_is_bounded(verifier: TokenVerifier) -> None:
    for number in range(10):
        verifier.verify(token("user", subject=f"u{number}"))

    assert len(verifier._cache) <= 3
    assert len(verifier._verified) <= 3


@pytest.mark.parametrize(("seconds", "accepted"), [("959", False), ("960", True)])
def test_a_stream_of_events_that_forgets_dead_tokens_is_refused(seconds: str, accepted: bool) -> None:
    with nullcontext() if accepted else pytest.raises(SettingsError, match="AIDEVOS_EVENTS_MAX_AGE must be at least"):
        load({"AIDEVOS_EVENTS_MAX_AGE": seconds})
