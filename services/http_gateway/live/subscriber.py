"""Who reads a live stream, and what is asked on a reader's behalf."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aidevos.feeds.audience import SendRequest
from aidevos.security.permissions import Principal

from ..forwarder import Forwarder


class Subscriber(NamedTuple):
    """Who reads, as the gateway knows it at the moment, the credential that was shown, and from where."""

    caller: Principal
    authorization: str
    address: str


def reading(forwarder: Forwarder, credential: Callable[[], str]) -> SendRequest[Subscriber]:
    """Asks with a reader's credential, or with this one, the gateway's own."""

    async def request(reader: Subscriber | None, subject: str, payload: bytes) -> bytes:
        options = {"authorization": credential() if reader is None else reader.authorization}
        return await forwarder.request(subject, payload, options)

    return request
