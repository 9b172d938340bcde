"""The keys of services: each is good for its service alone, and none for users."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any

import pytest

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.security import service_keys
from aidevos.security.credentials import ServiceCredential
from aidevos.security.delegations import DelegatedCall, Delegations, DelegationVerifier, Mandate
from aidevos.security.keys import SigningKeys, ensure_signing_key
from aidevos.security.permissions import Principal
from aidevos.security.service_keys import ServiceSigningKeys, VerificationKeys, register, replace_keys
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from aidevos.settings import Settings, SettingsError, load

ISSUER = "http://fleet.example"
CALL = DelegatedCall("do.counter.c.increment", b"{}", "r1")
MANDATE = Mandate("ada", ("admin",), 1, permissions=("*",))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which `objects` may write counters, and `events` acts for others."""
    ensure_signing_key(tmp_path)
    register(tmp_path, "objects", ["counter:write"])
    register(tmp_path, "events", acts_for_others=True)
    return tmp_path


def settings(home: Path, **changed: Any) -> Settings:
    return load({}, home=home, public_url=ISSUER, **changed)


def verifier(home: Path, now: Any = time.time) -> TokenVerifier:
    return TokenVerifier(VerificationKeys(home), ISSUER, now)


def token(home: Path, service: str, subject: str, **claims: Any) -> str:
    issuer = TokenIssuer(ServiceSigningKeys(home, service), ISSUER)
    return "Bearer " + issuer.issue(subject, **{"roles": ("service",), **claims})


def delegation(home: Path, service: str, actor: str) -> str:
    return Delegations(ServiceSigningKeys(home, service), ISSUER, actor).authorization(MANDATE, CALL)


def judged(home: Path, authorization: str) -> Principal:
    return DelegationVerifier(verifier(home)).verify(authorization, CALL)


def refused(operation: Any, *arguments: Any) -> bool:
    with pytest.raises(Failure) as raised:
        operation(*arguments)
    return raised.value.code == "unauthenticated"


def test_a_service_speaks_for_itself(home: Path) -> None:
    credential = ServiceCredential(settings(home), "objects", ["counter:write"])
    caller = verifier(home).verify(credential.authorization())
    assert (caller.subject, caller.roles) == ("service:objects", ("service",))
    assert caller.permissions == {"counter:write"}
    own = credential.principal
    assert (own.subject, own.roles, own.permissions) == (caller.subject, caller.roles, caller.permissions)


@pytest.mark.parametrize(
    "claims",
    [
        {"subject": "service:objects", "permissions": ("*",)},
        {"subject": "service:objects", "permissions": ("counter:write", "users:manage")},
        {"subject": "service:objects", "roles": ("admin",)},
        {"subject": "service:objects", "roles": ("service", "admin")},
        {"subject": "service:objects", "roles": ()},
        {"subject": "service:events"},
        {"subject": "ada"},
        {"subject": "ada", "roles": ("user",)},
        {"subject": "ada", "roles": ("admin",), "session": "s"},
    ],
)
def test_a_service_signs_nothing_else(home: Path, claims: dict[str, Any]) -> None:
    assert refused(verifier(home).verify, token(home, "objects", **claims))


@pytest.mark.parametrize("actor", ["objects", "events"])
def test_a_service_that_acts_only_for_itself_signs_no_delegation(home: Path, actor: str) -> None:
    assert refused(judged, home, delegation(home, "objects", actor))


def test_a_service_that_acts_for_others_signs_delegations_as_itself(home: Path) -> None:
    caller = judged(home, delegation(home, "events", "events"))
    assert (caller.subject, caller.actor) == ("ada", "service:events")
    assert refused(judged, home, delegation(home, "events", "objects"))


def test_a_service_that_acts_for_others_replays_what_services_sent_and_signs_no_users_token(home: Path) -> None:
    replayed = token(home, "events", "service:objects", permissions=("counter:write",))
    assert verifier(home).verify(replayed).subject == "service:objects"
    for claims in ({"subject": "ada"}, {"subject": "ada", "roles": ("admin",)}, {"subject": "service:x", "roles": ()}):
        assert refused(verifier(home).verify, token(home, "events", **claims))


def test_the_issuers_key_goes_on_to_sign_for_everybody(home: Path) -> None:
    issuer = TokenIssuer(SigningKeys(home), ISSUER)
    for subject, roles in (("ada", ("admin",)), ("service:objects", ("service",))):
        authorization = "Bearer " + issuer.issue(subject, roles=roles, permissions=("anything",))
        assert verifier(home).verify(authorization).subject == subject


def test_the_private_key_is_in_a_file_of_the_service_alone(home: Path) -> None:
    objects, events = home / "service_keys/objects.json", home / "service_keys/events.json"
    public = (home / "public/services.json").read_text()
    for path in (objects, events):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        private = service_keys._read_private(path).private
        assert private
        assert private not in public


def test_a_running_verifier_knows_a_registration_at_once(home: Path) -> None:
    checked = verifier(home)
    for number in range(3):
        permission = f"cart:{number}"
        for service in ("objects", f"new{number}"):
            register(home, service, [permission])
            allowed = token(home, service, f"service:{service}", permissions=(permission,))
            assert checked.verify(allowed).permissions == {permission}


def test_the_keys_are_read_again_only_when_they_have_changed(home: Path) -> None:
    keys = VerificationKeys(home)
    before = keys()
    assert keys() is before
    register(home, "another")
    assert len(keys()) == len(before) + 1


def test_what_is_registered_grows_and_keeps_its_key(home: Path) -> None:
    before = VerificationKeys(home)().keys()
    register(home, "objects", ["cart:write"])
    assert VerificationKeys(home)().keys() == before
    for permission in ("counter:write", "cart:write"):
        allowed = token(home, "objects", "service:objects", permissions=(permission,))
        assert verifier(home).verify(allowed).permissions == {permission}


def test_who_may_not_register_anything_starts_with_what_is_registered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(service_keys, "write_secret", read_only)
    ServiceCredential(settings(home), "objects", ["counter:write"])
    with pytest.raises(SettingsError, match="objects isn't registered"):
        ServiceCredential(settings(home, service_permissions="users:manage"), "objects")
    with pytest.raises(SettingsError, match="projects isn't registered"):
        ServiceCredential(settings(home), "projects")


def test_a_replaced_key_signs_at_once_and_the_old_one_ends_with_its_tokens(home: Path) -> None:
    credential = ServiceCredential(settings(home), "objects")
    before = credential.authorization()
    assert credential.authorization() == before
    replace_keys(home, at_once=False)
    after = credential.authorization()

    assert after != before
    for each in (before, after):
        assert verifier(home).verify(each).subject == "service:objects"
    now = time.time() + TOKEN_LIFETIME + CLOCK_MARGIN
    old = [key for known in service_keys.load_registrations(home).values() for key in known.keys if key.until]
    assert len(old) == 2
    assert all(key.until is not None and key.until <= now for key in old)


def test_a_key_that_others_may_know_ends_at_once(home: Path) -> None:
    credential, checked = ServiceCredential(settings(home), "objects"), verifier(home)
    before = credential.authorization()
    replace_keys(home, at_once=True)
    assert verifier(home).verify(credential.authorization()).subject == "service:objects"
    assert refused(verifier(home).verify, before)
    assert checked.verify(credential.authorization()).subject == "service:objects"
    assert refused(checked.verify, before)


def test_an_ended_key_is_forgotten(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = VerificationKeys(home)().keys()
    replace_keys(home, at_once=False)
    assert before < VerificationKeys(home)().keys()
    later = time.time() + TOKEN_LIFETIME + CLOCK_MARGIN + 1
    monkeypatch.setattr(service_keys.time, "time", lambda: later)
    assert len(VerificationKeys(home)()) == 3
    replace_keys(home, at_once=False)
    assert [len(known.keys) for known in service_keys.load_registrations(home).values()] == [2, 2]
