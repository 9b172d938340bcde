"""Links in mail: asking for one, the page that it leads to, and using it. No rule lives here.

A link leads to a page that does nothing until its button is pressed: programs that follow the links
in a mail don't use them up. The token is the URL's fragment, so it stands in no request line, no
log and no Referer.
"""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects
from aidevos.contracts.confirmation import (
    CONFIRM_PATH,
    CONFIRMATION_TYPE,
    RECOVERY_TYPE,
    RESET_PATH,
    ConfirmBody,
    EmailBody,
    ForgottenBody,
    ResetBody,
    recovery_id,
    user_of,
)
from aidevos.contracts.errors import Failure

from .. import bodies
from ..answers import JSON_HEADER, Answer
from ..calls import Calls
from ..pages import page
from ..resource import Guard, Incoming, OpenDoor, Resource

BODY_LIMIT = 16 * 1024
_ACCEPTED = Answer(202, headers=())

_forgotten = msgspec.json.Decoder(ForgottenBody)
_reset = msgspec.json.Decoder(ResetBody)
_email = msgspec.json.Decoder(EmailBody)
_confirm = msgspec.json.Decoder(ConfirmBody)


class ConfirmationRouter:
    """`/auth/password/reset` and `/auth/email`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._page = page("link.html")

    def routes(self, known: Guard, open: OpenDoor) -> list[Route]:
        return [
            Route("/auth/password/reset", Resource(open, post=self.ask)),
            Route(RESET_PATH, Resource(open, get=self.page, post=self.reset)),
            Route("/auth/email", Resource(known, post=self.change)),
            Route("/auth/email/verify", Resource(known, post=self.verify)),
            Route(CONFIRM_PATH, Resource(open, get=self.page, post=self.confirm)),
        ]

    async def ask(self, incoming: Incoming) -> Answer:
        payload = await incoming.body(BODY_LIMIT)
        body = bodies.decode(_forgotten, payload, "body")
        await self._anonymous(incoming, RECOVERY_TYPE, recovery_id(body.email), "request_reset", payload)
        return _ACCEPTED

    async def reset(self, incoming: Incoming) -> Answer:
        payload = await incoming.body(BODY_LIMIT)
        body = bodies.decode(_reset, payload, "body")
        await self._anonymous(incoming, CONFIRMATION_TYPE, _user(body.token), "reset_password", payload)
        return Answer(204, headers=())

    async def confirm(self, incoming: Incoming) -> Answer:
        payload = await incoming.body(BODY_LIMIT)
        body = bodies.decode(_confirm, payload, "body")
        reply = await self._anonymous(incoming, CONFIRMATION_TYPE, _user(body.token), "confirm_email", payload)
        return Answer(200, reply, (JSON_HEADER, (b"cache-control", b"no-store")))

    async def change(self, incoming: Incoming) -> Answer:
        payload = await incoming.body(BODY_LIMIT)
        bodies.decode(_email, payload, "body")
        await self._own(incoming, "change_email", payload)
        return _ACCEPTED

    async def verify(self, incoming: Incoming) -> Answer:
        await self._own(incoming, "verify_email", b"{}")
        return _ACCEPTED

    async def page(self, incoming: Incoming) -> Answer:
        return self._page

    async def _own(self, incoming: Incoming, method: str, payload: bytes) -> None:
        user = incoming.principal.subject
        if not subjects.is_id(user):
            raise Failure("forbidden", "this needs the token of a user")
        await self._calls.arguments(
            subjects.call(CONFIRMATION_TYPE, user, method), payload, self._calls.options(incoming)
        )

    async def _anonymous(self, incoming: Incoming, type: str, id: str, method: str, payload: bytes) -> bytes:
        """A call that needs no credential; one that is shown is not looked at."""
        options = self._calls.options(incoming) | {"authorization": ""}
        return await self._calls.arguments(subjects.call(type, id, method), payload, options)


def _user(token: str) -> str:
    try:
        return user_of(token)
    except Failure as failure:
        failure.field = "token"
        raise
