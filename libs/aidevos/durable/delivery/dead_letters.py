"""Where everything ends that can't be delivered: an object of type `dead_letter`.

Promise: a letter is there once, however often it is buried, also when it was replayed or deleted in between.
Until the letter is stored, its sender keeps what it is about.
"""

from __future__ import annotations

import logging

import msgspec

from aidevos.contracts import dead_letters, envelope, subjects
from aidevos.contracts.dead_letters import BURY, Letter
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import ObjectCaller

log = logging.getLogger(__name__)
BURY_WITHIN = 10.0


async def bury(client: ObjectCaller, letter: Letter) -> None:
    """Store a letter, as a service; raises `Failure`, after which it has to be tried again."""
    try:
        await client.request(
            subjects.call(dead_letters.TYPE, letter.id, BURY),
            msgspec.msgpack.encode({"letter": letter}),
            request_id=f"{TELL_PREFIX}{BURY}.{letter.id}",
            deadline=BURY_WITHIN,
            headers={envelope.CONTENT_TYPE: envelope.MSGPACK},
        )
    except Failure as failure:
        # It was buried before, and tells of another attempt or another moment.
        if failure.code != "request-id-reused":
            raise
    log.error("%s: %s became a dead letter: %s: %s", letter.source, letter.subject, letter.code, letter.detail)
