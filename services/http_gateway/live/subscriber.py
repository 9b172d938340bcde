"""The reader of a live stream, and the requests that are sent on its behalf."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aidevos.feeds.audience import SendRequest
from aidevos.security.permissions import Principal

from ..forwarder import Forwarder
from ..http.request import HttpRequest


class Subscriber(NamedTuple):
    """A reader as the gateway knows it at present, with its credential and its IP address."""

    caller: Principal
    authorization: str
    address: str


def subscriber_of(request: HttpRequest) -> Subscriber:
    """Return the reader who has sent a request."""
    return Subscriber(request.principal, request.header(b"authorization") or "", request.address)


def request_as_reader(forwarder: Forwarder, credential: Callable[[], str]) -> SendRequest[Subscriber]:
    """Return a function that sends requests with a reader's credential.

    Without a reader, it uses the gateway's own `credential`.
    """

    async def request(reader: Subscriber | None, subject: str, payload: bytes) -> bytes:
        options = {"authorization": credential() if reader is None else reader.authorization}
        return await forwarder.request(subject, payload, options)

    return request
