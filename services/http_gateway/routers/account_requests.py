"""What requests about accounts have in common: a bounded body, and the session that they are of."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from aidevos.contracts.errors import Failure

from .. import bodies
from ..resource import Incoming

T = TypeVar("T")
BODY_LIMIT = 16 * 1024


async def read(incoming: Incoming, decoder: msgspec.json.Decoder[T]) -> tuple[T, bytes]:
    """The decoded body, and the body."""
    body = await incoming.body(BODY_LIMIT)
    return bodies.decode(decoder, body, "body"), body


def session_of_caller(incoming: Incoming) -> str:
    """The ID of the caller's session; raises `forbidden` for a token that is of none."""
    if not incoming.principal.session:
        raise Failure("forbidden", "this needs the token of a login")
    return incoming.principal.session
