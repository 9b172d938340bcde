"""Tells that no type takes: the subject is none, or there is no such type. They become dead letters.

One process of the fleet sees to them: the one that owns the dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import time

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.delivery.dead_letters import bury
from aidevos.durable.delivery.tells import Tell, letter_of
from aidevos.security.permissions import ANONYMOUS

log = logging.getLogger(__name__)
LOOK_EVERY = 5.0
# Seconds that a tell to an unknown type waits, should the type be served for the first time just now.
GRACE = 10.0


async def bury_strays(connection: Client, client: ObjectCaller) -> None:
    """Bury the tells that nobody takes, until cancelled."""
    js = connection.jetstream()
    while True:
        try:
            known = await _types(js)
            state = (await js.stream_info(subjects.TELLS_STREAM, subjects_filter=">")).state
            for subject in state.subjects or {}:
                refusal = _refusal(known, subject)
                if refusal is not None:
                    await _bury_all(js, client, subject, refusal)
        except (NatsError, Failure) as error:
            log.warning("tells that nobody takes can't be seen to, trying again: %r", error)
        await asyncio.sleep(LOOK_EVERY)


async def _types(js: JetStreamContext) -> set[str]:
    """The types that were ever served. Raises `NoKeysError` when nats-py sees none, as it does now and then: there is
    one at least, that of the dead letters."""
    return set(await (await js.key_value(subjects.TYPES_BUCKET)).keys())


def _refusal(known: set[str], subject: str) -> Failure | None:
    """Why nobody takes what has this subject; None where somebody does."""
    parts = subject.split(".")
    if len(parts) < 4:
        return Failure("bad-request", "the subject is not tell.<type>.<id>.<method>", field="subject")
    if parts[1] in known:
        return None
    return Failure("unknown-type", f"there is no type {parts[1][:64]!r}", field="type")


async def _bury_all(js: JetStreamContext, client: ObjectCaller, subject: str, failure: Failure) -> None:
    # A wildcard would find the tells of others, and what is no text nothing.
    asked = subjects.TELLS if any(mark in subject for mark in "*>\ufffd") else subject
    sequence = 0
    while True:
        try:
            found = await js.get_msg(subjects.TELLS_STREAM, subject=asked, next=True, seq=sequence + 1)
        except NotFoundError:
            return
        sequence = found.seq or 0
        if found.subject != subject:
            continue
        at = found.time.timestamp() if found.time else 0.0
        if at + GRACE > time.time():
            return
        tell = Tell(subject, found.data or b"", dict(found.headers or {}), sequence, at)
        await bury(client, letter_of(tell, failure, now=time.time(), attempts=0, caller=ANONYMOUS, hidden=True))
        await js.delete_msg(subjects.TELLS_STREAM, tell.sequence)
