"""An admission of stored credentials, and a fake of the objects that it asks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.base.clock import ManualClock
from aidevos.durable.client.reference import refer
from aidevos.security import api_keys
from aidevos.security.key_ring import SigningKey
from aidevos.security.tokens import TokenIssuer, TokenVerifier

USER = {
    "id": "ada",
    "username": "ada",
    "email": None,
    "full_name": "",
    "roles": ["user"],
    "status": "active",
    "email_verified": True,
    "settings": {},
    "version": 7,
    "created_at": "",
    "updated_at": "",
}
GRANT = {
    "id": "k1",
    "owner": "ada",
    "roles": ["user"],
    "version": 7,
    "scopes": ["data:read"],
    "limits": None,
    "expires_at": None,
    "allowed_addresses": [],
}


ISSUER = "http://fleet.test"
NOW = 1_800_000_000.0
KEY = SigningKey("k", Ed25519PrivateKey.generate())
API_KEY = api_keys.make("0190" + "a" * 28, b"x" * 32)
DAY = 86_400.0


class Fleet:
    """A fake of the objects that an admission asks."""

    def __init__(self) -> None:
        self.open = True
        self.user: Any = USER | {"roles": ["admin"]}
        self.grant: Any = {"roles": ["user"]}
        self.asked: list[str] = []
        self.key_ends = NOW + 60
        self.grant = GRANT

    def object(self, type: str, id: str, **options: Any) -> Any:
        assert options == {"authorization": "service"}
        return refer(type, id, self.call)

    async def call(self, type: str, id: str, method: str, payload: bytes) -> bytes:
        self.asked.append(f"{type}.{id}.{method}")
        found = {"session.s.is_open": self.open, "user.ada.show": self.user, "access_token.r.resolve": self.grant}[
            self.asked[-1]
        ]
        if isinstance(found, Failure):
            raise found
        return msgspec.json.encode(found)

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        asked = msgspec.json.decode(payload)
        if asked["hashed"] != API_KEY.hashed or (asked["at"] or NOW + DAY) >= self.key_ends:
            raise Failure("not-found", "no such key")
        return msgspec.json.encode(self.grant | {"id": API_KEY.id, "expires_at": self.key_ends})


class World:
    def __init__(self) -> None:
        self.clock, self.fleet = ManualClock(NOW), Fleet()
        self.verifier = TokenVerifier(lambda: {KEY.id: KEY.private.public_key()}, ISSUER, self.clock.now)
        fleet: Any = self.fleet
        self.admission = Admission(self.verifier, fleet, lambda: "service", self.clock.now)

    def token(self, **options: Any) -> str:
        given = {"roles": ("user",), "session": "s", "lifetime": 600.0} | options
        return "Bearer " + TokenIssuer(KEY, ISSUER, self.clock.now).issue("ada", **given)

    async def refusal(self, authorization: str | None, at: float) -> str:
        with pytest.raises(Failure) as caught:
            await self.admission.admit_stored(authorization, at)
        return f"{caught.value.code}: {caught.value.detail}"
