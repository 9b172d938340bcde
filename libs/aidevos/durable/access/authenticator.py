"""Authentication of NATS messages: who has sent one, and whether the sender's rate limit has room for it.

Promise: only the fleet's own connections are trusted to name a client's address, and only theirs pass without
a rate limit: the gateway has applied its callers', and services have none.
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


class CallAuthenticator:
    """Authenticates the senders of messages. `is_open` is true for subjects that need no credential."""

    def __init__(self, admission: Admission, limiter: RateLimiter, is_open: Callable[[str], bool]) -> None:
        self._admission = admission
        self._limiter = limiter
        self._is_open = is_open

    def admit(self, message: Msg, headers: Mapping[str, str]) -> Principal:
        """Return the sender of a message with these trusted headers, and spend one of its requests. Raises
        `unauthenticated`, `Limited` and `NotReady`."""
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


def trusted_headers(message: Msg) -> dict[str, str]:
    """Return the headers of a message without those that its sender isn't trusted to set."""
    headers: dict[str, str] = message.headers or {}
    if not message.reply.startswith(OWN_INBOX):
        headers.pop(envelope.CLIENT_ADDRESS, None)
    return headers


def _asked(subject: str) -> str:
    """The subject that the caller has named: calls come from there to `dop.<partition>.…`."""
    return "do." + subject.split(".", 2)[2] if subject.startswith("dop.") else subject
