"""`/auth/mfa`: one's own second factor. Each request is one call of the caller's session."""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects
from aidevos.contracts.authentication import SESSION_TYPE, ConfirmPasswordBody, OtpBody

from ..answers import NO_STORE, Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from .account_requests import read, session_of_caller

_password = msgspec.json.Decoder(ConfirmPasswordBody)
_otp = msgspec.json.Decoder(OtpBody)


class MfaRouter:
    """`/auth/mfa`, but for `verify`, which is a login."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        return [
            Route("/auth/mfa/totp", Resource(known, post=self.begin, delete=self.disable)),
            Route("/auth/mfa/totp/confirm", Resource(known, post=self.confirm)),
            Route("/auth/mfa/recovery-codes", Resource(known, post=self.renew)),
        ]

    async def begin(self, incoming: Incoming) -> Answer:
        _, payload = await read(incoming, _password)
        return Answer(200, await self._request(incoming, "begin_totp", payload), NO_STORE)

    async def confirm(self, incoming: Incoming) -> Answer:
        _, payload = await read(incoming, _otp)
        return Answer(200, await self._request(incoming, "confirm_totp", payload), NO_STORE)

    async def disable(self, incoming: Incoming) -> Answer:
        """The password is in the body, or, since not every client can send one with DELETE (RFC 9110
        §9.3.5), a code in the header `Otp`: it is worth nothing to whoever logs headers."""
        otp = incoming.header(b"otp")
        if otp is None:
            _, payload = await read(incoming, _password)
        else:
            payload = msgspec.json.encode({"otp": otp})
        await self._request(incoming, "disable_totp", payload)
        return Answer(204, headers=())

    async def renew(self, incoming: Incoming) -> Answer:
        _, payload = await read(incoming, _password)
        return Answer(200, await self._request(incoming, "renew_recovery_codes", payload), NO_STORE)

    async def _request(self, incoming: Incoming, method: str, payload: bytes) -> bytes:
        subject = subjects.call(SESSION_TYPE, session_of_caller(incoming), method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming))
