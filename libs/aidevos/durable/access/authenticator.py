"""Authentication and rate limiting of NATS messages.

Promise: only the fleet's own connections may state a client's address, or which objects wait for a call. Only they, and
services, bypass the rate limit: the gateway has already applied its callers' limits, and services have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nats.aio.msg import Msg

from aidevos.contracts import envelope
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.security.delegations import DelegatedCall, is_delegation
from aidevos.security.permissions import ANONYMOUS, Principal

# The reply subjects of the fleet's own connections begin with this. Clients have an account of their own, and between
# accounts the NATS server replaces reply subjects, so no client's message can have one of these.
FLEET_INBOX = "_INBOX_"


class CallAuthenticator:
    """Authenticates the senders of NATS messages.

    `is_open` tells which subjects need no credential, and `count_items` how many items a message asks for.
    """

    def __init__(
        self,
        admission: Admission,
        limiter: RateLimiter,
        is_open: Callable[[str], bool],
        count_items: Callable[[Msg, Mapping[str, str]], int],
    ) -> None:
        self._admission = admission
        self._limiter = limiter
        self._is_open = is_open
        self._count_items = count_items

    def admit(self, message: Msg, headers: Mapping[str, str]) -> Principal:
        """Return the sender of a message and charge its rate limit.

        `headers` are the message's trusted headers. Raises `unauthenticated`, `RateLimited` or `NotReady`.
        """
        authorization = headers.get(envelope.AUTHORIZATION)
        if authorization is not None and is_delegation(authorization):
            subject = _requested_subject(message.subject)
            call = DelegatedCall(subject, message.data, headers.get(envelope.REQUEST_ID, ""))
            return self._admission.authenticate_delegation(authorization, call)
        if not authorization and self._is_open(message.subject):
            caller = ANONYMOUS
        else:
            caller = self._admission.authenticate(authorization, headers.get(envelope.CLIENT_ADDRESS, ""))
        if not (caller.is_service or message.reply.startswith(FLEET_INBOX)):
            cost = self._limiter.price_page(self._count_items(message, headers))
            self._limiter.spend(caller, "", _requested_subject(message.subject).split(".", 2)[1], cost)
        return caller


def trusted_headers(message: Msg) -> dict[str, str]:
    """Return a message's headers, without those that its sender may not set."""
    headers: dict[str, str] = message.headers or {}
    if not message.reply.startswith(FLEET_INBOX):
        headers.pop(envelope.CLIENT_ADDRESS, None)
        headers.pop(envelope.CALL_CHAIN, None)
    return headers


def _requested_subject(subject: str) -> str:
    """Return the subject that the caller published to. NATS maps calls to `dop.<partition>.…`."""
    return "do." + subject.split(".", 2)[2] if subject.startswith("dop.") else subject
