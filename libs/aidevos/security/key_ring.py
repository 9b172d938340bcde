"""The lives of signing keys: pure rules over a ring of them; times are in seconds since the epoch.

A key is published when it is made, signs from a later moment until its successor does, and is known
to verifiers until the last token that it has signed has expired.
"""

from __future__ import annotations

import base64
import hashlib
from itertools import pairwise
from typing import Literal, NamedTuple, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME

# A repeated refresh asks for the signature of up to this long ago.
LONGEST_GRACE = 60.0


class SigningKey(NamedTuple):
    id: str
    private: Ed25519PrivateKey

    def at(self, moment: float) -> SigningKey:
        """The key for a signature of this moment."""
        return self


# Why a key was made.
Cause = Literal["first", "age", "command", "emergency"]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """`public` and `private` are the members `x` and `d` of RFC 8037; `private` is empty once it was
    removed. `needed_until` is the expiry of its last token, if that outlives the services' own."""

    id: str
    public: str
    private: str
    cause: Cause
    made_at: float
    signs_from: float
    needed_until: float = 0.0

    @classmethod
    def generate(cls, cause: Cause, now: float, signs_from: float) -> Self:
        private = Ed25519PrivateKey.generate()
        public = encode(private.public_key().public_bytes_raw())
        return cls(
            id=_thumbprint(public),
            public=public,
            private=encode(private.private_bytes_raw()),
            cause=cause,
            made_at=now,
            signs_from=signs_from,
        )

    @property
    def jwk(self) -> dict[str, str]:
        """The public half (RFC 7517, 8037)."""
        return {"kty": "OKP", "crv": "Ed25519", "x": self.public, "kid": self.id, "use": "sig", "alg": "EdDSA"}

    @property
    def signing(self) -> SigningKey:
        return SigningKey(self.id, Ed25519PrivateKey.from_private_bytes(decode(self.private)))


# In the order in which they sign.
Ring = tuple[Key, ...]


def retirements(ring: Ring) -> list[float | None]:
    """When each key stops to sign; None for the last."""
    return [*(successor.signs_from for _, successor in pairwise(ring)), None]


def signer(ring: Ring, at: float) -> Key:
    """The key that signs at this moment; when that is gone, the oldest that still can."""
    able = [key for key in ring if key.private]
    signing = [key for key in able if key.signs_from <= at]
    return signing[-1] if signing else able[0]


def begun(cause: Cause, now: float) -> Ring:
    """With one key, which signs from now on."""
    return (Key.generate(cause, now, now),)


def rotated(ring: Ring, cause: Cause, now: float, notice: float) -> Ring:
    """With a successor that signs `notice` seconds from now, unless there is one that waits to sign."""
    if ring[-1].signs_from > now:
        return ring
    return (*ring, Key.generate(cause, now, now + notice))


def tended(ring: Ring, now: float, age: float, notice: float) -> Ring:
    """After what time asks for: a successor for a key that is `age` seconds old, no private half that
    signs no more, and no key whose last token has expired."""
    if now >= ring[-1].made_at + age:
        ring = rotated(ring, "age", now, notice)
    kept = []
    for key, retired_at in zip(ring, retirements(ring), strict=True):
        if retired_at is None or now < retired_at + LONGEST_GRACE + CLOCK_MARGIN:
            kept.append(key)
        elif now < max(retired_at + TOKEN_LIFETIME, key.needed_until) + CLOCK_MARGIN:
            kept.append(msgspec.structs.replace(key, private=""))
    return tuple(kept)


def needed(ring: Ring, id: str, until: float) -> Ring:
    """With a key that is kept until a token of it has expired."""
    return tuple(
        msgspec.structs.replace(key, needed_until=max(key.needed_until, until)) if key.id == id else key for key in ring
    )


def public_key(x: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(decode(x))


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _thumbprint(x: str) -> str:
    """RFC 7638."""
    return encode(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())
