"""The lives of signing keys: pure rules over a ring of keys. Times are in seconds since the epoch.

A key is published when it is made, and signs from a later time until its successor does. Verifiers know
it until the last token that it signed has expired.
"""

from __future__ import annotations

import base64
import hashlib
from itertools import pairwise
from typing import Literal, NamedTuple, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME

# A repeated refresh needs a signature from up to this many seconds ago.
LONGEST_GRACE = 60.0


class SigningKey(NamedTuple):
    id: str
    private: Ed25519PrivateKey

    def at(self, moment: float) -> SigningKey:
        """Return the key for a signature at this time."""
        return self


# The reason why a key was made.
Cause = Literal["first", "age", "command", "emergency"]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key in the ring.

    `public` and `private` are the members `x` and `d` of RFC 8037; `private` is empty once it was
    removed. `needed_until` is the expiry of its last token if that outlives the services' own tokens.
    """

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


# The keys in the order in which they sign.
Ring = tuple[Key, ...]


def retirements(ring: Ring) -> list[float | None]:
    """Return when each key stops signing; None for the last one."""
    return [*(successor.signs_from for _, successor in pairwise(ring)), None]


def signer(ring: Ring, at: float) -> Key:
    """Return the key that signs at this time or, if it is gone, the oldest key that still can."""
    able = [key for key in ring if key.private]
    signing = [key for key in able if key.signs_from <= at]
    return signing[-1] if signing else able[0]


def new_ring(cause: Cause, now: float) -> Ring:
    """Return a ring with one key, which signs from now on."""
    return (Key.generate(cause, now, now),)


def rotate(ring: Ring, cause: Cause, now: float, notice: float) -> Ring:
    """Return the ring with a successor that signs in `notice` seconds, unless one is already waiting."""
    if ring[-1].signs_from > now:
        return ring
    return (*ring, Key.generate(cause, now, now + notice))


def maintain(ring: Ring, now: float, age: float, notice: float) -> Ring:
    """Return the ring after all changes that are due.

    A key that is `age` seconds old gets a successor. A key that no longer signs loses its private half.
    A key whose last token has expired is removed.
    """
    if now >= ring[-1].made_at + age:
        ring = rotate(ring, "age", now, notice)
    kept = []
    for key, retired_at in zip(ring, retirements(ring), strict=True):
        if retired_at is None or now < retired_at + LONGEST_GRACE + CLOCK_MARGIN:
            kept.append(key)
        elif now < max(retired_at + TOKEN_LIFETIME, key.needed_until) + CLOCK_MARGIN:
            kept.append(msgspec.structs.replace(key, private=""))
    return tuple(kept)


def keep_until(ring: Ring, id: str, until: float) -> Ring:
    """Return the ring with this key kept until one of its tokens expires."""
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
    """Return the thumbprint of a public key (RFC 7638)."""
    return encode(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())
