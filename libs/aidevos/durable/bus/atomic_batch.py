"""Atomic batches of JetStream (NATS ADR-50).

Promise: the server stores all messages of a batch, with one write to disk, or none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import NamedTuple

from nats.aio.client import Client
from nats.js import JetStreamContext


class Unsupported(Exception):
    """Raised if the server stores the messages of a batch one by one."""


class BatchMessage(NamedTuple):
    subject: str
    payload: bytes
    headers: Mapping[str, str]


async def publish_batch(
    connection: Client, js: JetStreamContext, messages: Sequence[BatchMessage], within: float
) -> range:
    """Publish messages to a stream as one batch, and return their sequences.

    Raises `APIError` if the server has refused them all, `Unsupported`, or an error of nats-py, at the latest after
    `within` seconds.
    """
    batch = {"Nats-Batch-Id": token_hex(16)}
    for number, message in enumerate(messages[:-1], 1):
        headers = {**message.headers, **batch, "Nats-Batch-Sequence": str(number)}
        await connection.publish(message.subject, message.payload, headers=headers)
    last = messages[-1]
    headers = {**last.headers, **batch, "Nats-Batch-Sequence": str(len(messages)), "Nats-Batch-Commit": "1"}
    ack = await js.publish(last.subject, last.payload, timeout=within, headers=headers)
    if ack.batch_size != len(messages):
        raise Unsupported("the server doesn't support atomic batches")
    return range(ack.seq - len(messages) + 1, ack.seq + 1)
