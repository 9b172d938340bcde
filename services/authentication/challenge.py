"""The challenge that links the two steps of a login: it proves that the password was right.

A challenge is sealed and handed to the client. The server stores none, so a crash loses none. It is
valid for `LIFETIME` seconds, for the account, device, password and seed that it was issued for.
Without a code of the second factor it is worth nothing.
"""

from __future__ import annotations

import msgspec

from aidevos import new_id
from aidevos.contracts.errors import Failure
from aidevos.security.sealed import Sealer, SealError

LIFETIME = 300.0
PURPOSE = "challenge"


class Challenge(msgspec.Struct, array_like=True):
    """The sealed content of a challenge; `expires_at` is in seconds since the epoch."""

    id: str
    expires_at: float


_decoder = msgspec.json.Decoder(Challenge)


def issue(sealer: Sealer, account: str, binding: tuple[str, ...], now: float) -> str:
    """Return a new challenge for an account. `read` must get the same `binding`."""
    content = msgspec.json.encode(Challenge(new_id(), now + LIFETIME))
    return f"{account}.{sealer.seal(content, PURPOSE, account, *binding)}"


def read(sealer: Sealer, account: str, binding: tuple[str, ...], challenge: str, now: float) -> Challenge:
    """Return the content of a challenge.

    Raises `unauthenticated` if it has expired or was issued for another account or binding.
    """
    try:
        content = _decoder.decode(sealer.open(challenge.removeprefix(f"{account}."), PURPOSE, account, *binding))
    except SealError:
        raise wrong_challenge() from None
    if content.expires_at <= now:
        raise wrong_challenge()
    return content


def wrong_challenge() -> Failure:
    return Failure("unauthenticated", "the challenge is no longer valid; log in again")
