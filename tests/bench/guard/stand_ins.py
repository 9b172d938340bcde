"""Stand-ins for what surrounds a hot path, and the parts of the product on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aidevos.contracts.data import ITEM_TYPE
from aidevos.contracts.rate_limits import QUOTA_TYPE, QuotaSlice
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.security.key_ring import SigningKey
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from aidevos.settings import load
from services.http_gateway.bootstrap import build
from services.http_gateway.catalogue import TypeCatalogue
from services.http_gateway.declared_routes import RouteTable
from services.http_gateway.forwarder import Forwarder
from services.objects.counter import Counter

ISSUER = "http://127.0.0.1:8080"
ITEM = {"name": "thing 7", "price": 7, "tags": ["red", "round"], "size": {"w": 10, "h": 2.5}}
UNUSED: Any = None
Run = Callable[[], Awaitable[object]]


async def gateway(client: Any) -> tuple[Any, str]:
    """Return the gateway's application and an administrator's header."""
    settings = msgspec.structs.replace(load({}), rate_limit=1_000_000, rate_burst=10_000_000)
    admission, tokens = admission_of(1)
    catalogue = TypeCatalogue(UNUSED)
    catalogue._types = {"counter": DurableObjectRegistry([Counter]).types["counter"].description}
    app = build(
        settings,
        UNUSED,
        Forwarder(client, lambda: "", settings),
        catalogue,
        admission,
        RateLimiter(settings, client, lambda: ""),
        RouteTable(is_awaited=False),
        UNUSED,
        UNUSED,
        UNUSED,
        UNUSED,
    )
    return app, tokens[0]


class AnsweringClient:
    """A client of objects that has every answer at once."""

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        if subject.startswith(f"do.{QUOTA_TYPE}."):
            return msgspec.json.encode(QuotaSlice(taken=10**9, remaining=10**9, reset=1.0, retry=0.0))
        if subject.startswith(f"do.{ITEM_TYPE}."):
            shown = {"collection": "things", "id": "i7", "data": ITEM, "version": 3, "owner": "admin"}
            return msgspec.json.encode(shown)
        return b"7"


def admission_of(tokens: int) -> tuple[Admission, list[str]]:
    """Return an admission, and the headers of an administrator with that many tokens."""
    key = SigningKey("guard", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    verifier = TokenVerifier(lambda: {key.id: key.private.public_key()}, ISSUER)
    verifier.set_roles({})
    issuer = TokenIssuer(key, ISSUER)
    issued = [f"Bearer {issuer.issue('guard', roles=('admin',), lifetime=86_400.0)}" for _ in range(tokens)]
    return Admission(verifier, UNUSED, lambda: ""), issued
