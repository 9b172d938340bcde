"""Stray tells, whose subject is malformed or names an unknown type. They become dead letters.

One process of the fleet handles them: the owner of the dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.delivery.stored_tell import Tell

log = logging.getLogger(__name__)
LOOK_EVERY = 5.0
# A tell to an unknown type waits this many seconds, because the type may just be starting for the first time.
GRACE = 10.0


class Burier(Protocol):
    """Makes dead letters of stray tells, within the limits of their senders."""

    async def bury_stray(self, tell: Tell, failure: Failure) -> None:
        """Bury a tell. Raises `Failure` if it must be tried again."""


async def bury_strays(connection: Client, burier: Burier) -> None:
    """Turn stray tells into dead letters until cancelled."""
    js = connection.jetstream()
    while True:
        try:
            known = await _known_types(js)
            state = (await js.stream_info(subjects.TELLS_STREAM, subjects_filter=">")).state
            for subject in state.subjects or {}:
                refusal = _find_refusal(known, subject)
                if refusal is not None:
                    await _bury_all(js, burier, subject, refusal)
        except (NatsError, Failure) as error:
            log.warning("burying stray tells failed, trying again: %r", error)
        await asyncio.sleep(LOOK_EVERY)


async def _known_types(js: JetStreamContext) -> set[str]:
    """Return all types that were ever served.

    Raises `NoKeysError` when nats-py sees none, as it occasionally does. There is always at least `dead_letter`.
    """
    return set(await (await js.key_value(subjects.TYPES_BUCKET)).keys())


def _find_refusal(known: set[str], subject: str) -> Failure | None:
    """Return the failure of tells with this subject, or None if a type accepts them."""
    type, *rest = subjects.tell_target(subject).split(".")
    if len(rest) < 2:
        return Failure("bad-request", "the subject is not tell.<type>.<id>.<method>", field="subject")
    if type in known:
        return None
    return Failure("unknown-type", f"there is no type {type[:64]!r}", field="type")


async def _bury_all(js: JetStreamContext, burier: Burier, subject: str, failure: Failure) -> None:
    # A subject with a wildcard would match other tells, and one with undecodable bytes none. Read all tells then.
    odd = any(mark in subject for mark in "*>\ufffd")
    filter_subject = f"{subject.partition('.')[0]}.>" if odd else subject
    sequence = 0
    while True:
        try:
            found = await js.get_msg(subjects.TELLS_STREAM, subject=filter_subject, next=True, seq=sequence + 1)
        except NotFoundError:
            return
        sequence = found.seq or 0
        if found.subject != subject:
            continue
        at = found.time.timestamp() if found.time else 0.0
        if at + GRACE > time.time():
            return
        tell = Tell(subject, found.data or b"", dict(found.headers or {}), sequence, at)
        await burier.bury_stray(tell, failure)
        await js.delete_msg(subjects.TELLS_STREAM, tell.sequence)
