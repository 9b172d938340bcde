"""The challenge of a login whose password was right: proof of that, until the second factor follows.

It is sealed and kept nowhere, so it outlives a crash. It opens within `LIFETIME` seconds, for the
account, device, password and seed that it was made for; without a code it is worth nothing.
"""

from __future__ import annotations

import msgspec

from aidevos import new_id
from aidevos.contracts.errors import Failure
from aidevos.security.sealed import Sealer, SealError

LIFETIME = 300.0
PURPOSE = "challenge"


class Challenge(msgspec.Struct, array_like=True):
    """What a challenge holds; `expires_at` is in seconds since the epoch."""

    id: str
    expires_at: float


_decoder = msgspec.json.Decoder(Challenge)


def issue(sealer: Sealer, account: str, bound: tuple[str, ...], now: float) -> str:
    """A new challenge of an account; `bound` is what must be the same when it is completed."""
    content = msgspec.json.encode(Challenge(new_id(), now + LIFETIME))
    return f"{account}.{sealer.seal(content, PURPOSE, account, *bound)}"


def read(sealer: Sealer, account: str, bound: tuple[str, ...], challenge: str, now: float) -> Challenge:
    """What the challenge holds; raises `unauthenticated` for one that is not this account's or has expired."""
    try:
        content = _decoder.decode(sealer.open(challenge.removeprefix(f"{account}."), PURPOSE, account, *bound))
    except SealError:
        raise wrong_challenge() from None
    if content.expires_at <= now:
        raise wrong_challenge()
    return content


def wrong_challenge() -> Failure:
    return Failure("unauthenticated", "the challenge is not valid any more; log in again")
