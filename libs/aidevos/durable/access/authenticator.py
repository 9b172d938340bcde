"""The door from NATS: who has sent a message, and whether it counts against a rate limit that has room.

Promise: only the fleet's own connections are believed to know a client's address, and only theirs pass without
a rate limit: the gateway has seen to its callers', and services have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nats.aio.msg import Msg

from aidevos.contracts import envelope
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.security.delegations import Errand, is_delegation
from aidevos.security.permissions import ANONYMOUS, Principal

# Inboxes of the fleet's own connections; a client's reply subject never comes through as one.
OWN_INBOX = "_INBOX_"


class Door:
    """`is_open` says whether what is sent to a subject needs no credential."""

    def __init__(self, admission: Admission, limiter: RateLimiter, is_open: Callable[[str], bool]) -> None:
        self._admission = admission
        self._limiter = limiter
        self._is_open = is_open

    def admit(self, message: Msg, headers: Mapping[str, str]) -> Principal:
        """Who asks, by the believed headers, and spend one of their requests. Raises `unauthenticated`, `Limited`
        and `NotYet`."""
        authorization = headers.get(envelope.AUTHORIZATION)
        subject = _asked(message.subject)
        if authorization is not None and is_delegation(authorization):
            errand = Errand(subject, message.data, headers.get(envelope.REQUEST_ID, ""))
            return self._admission.delegated(authorization, errand)
        if not authorization and self._is_open(message.subject):
            caller = ANONYMOUS
        else:
            caller = self._admission.caller(authorization, headers.get(envelope.CLIENT_ADDRESS, ""))
        if not (caller.is_service or message.reply.startswith(OWN_INBOX)):
            self._limiter.spend(caller, "", subject.split(".", 2)[1])
        return caller


def believed(message: Msg) -> dict[str, str]:
    """The headers of a message, as far as its sender is believed."""
    headers: dict[str, str] = message.headers or {}
    if not message.reply.startswith(OWN_INBOX):
        headers.pop(envelope.CLIENT_ADDRESS, None)
    return headers


def _asked(subject: str) -> str:
    """The subject that the caller has named: calls come from there to `dop.<partition>.…`."""
    return "do." + subject.split(".", 2)[2] if subject.startswith("dop.") else subject
