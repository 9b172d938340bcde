"""Dead letters: undeliverable messages, each stored in an object of type `dead_letter`.

Promise: a letter is stored once, however often it is buried, even if it was replayed or deleted in between. The
sender keeps the message until its letter is stored.
"""

from __future__ import annotations

import logging

import msgspec

from aidevos.contracts import dead_letters, envelope, subjects
from aidevos.contracts.dead_letters import BURY, Letter
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import ObjectCaller
from aidevos.observability.metrics import DEAD_LETTERS

log = logging.getLogger(__name__)
BURY_WITHIN = 10.0


async def bury(client: ObjectCaller, letter: Letter) -> None:
    """Store a letter on behalf of this service. Raises `Failure`, after which the caller must try again."""
    try:
        await client.request(
            subjects.call(dead_letters.TYPE, letter.id, BURY),
            msgspec.msgpack.encode({"letter": letter}),
            request_id=f"{TELL_PREFIX}{BURY}.{letter.id}",
            deadline=BURY_WITHIN,
            headers={envelope.CONTENT_TYPE: envelope.MSGPACK},
        )
    except Failure as failure:
        # The letter was buried before, with another time or number of attempts.
        if failure.code != "request-id-reused":
            raise
    else:
        DEAD_LETTERS.labels(letter.kind).inc()
    log.error("%s: %s became a dead letter: %s: %s", letter.source, letter.subject, letter.code, letter.detail)
