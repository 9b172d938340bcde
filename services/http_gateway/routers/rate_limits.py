"""`/rate-limits`: the policies. No rule lives here."""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from aidevos.contracts import rate_limits, subjects
from aidevos.contracts.rate_limits import RateLimitsBody

from .. import bodies
from ..answers import JSON_HEADER, Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource

BODY_LIMIT = 256 * 1024


class _Shown(msgspec.Struct):
    version: int


_shown = msgspec.json.Decoder(_Shown)
_replace = msgspec.json.Decoder(RateLimitsBody)


class RateLimitRouter:
    """`/rate-limits`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, managers: Guard) -> list[Route]:
        return [Route("/rate-limits", Resource(managers, get=self.read, put=self.replace))]

    async def read(self, incoming: Incoming) -> Answer:
        return await self._call(incoming, "read", b"{}")

    async def replace(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT)
        bodies.decode(_replace, body, "policies")
        return await self._call(incoming, "replace", body)

    async def _call(self, incoming: Incoming, method: str, payload: bytes) -> Answer:
        subject = subjects.call(rate_limits.TYPE, rate_limits.ID, method)
        reply = await self._calls.arguments(subject, payload, self._calls.options(incoming))
        return Answer(200, reply, (JSON_HEADER, (b"etag", b'"%d"' % _shown.decode(reply).version)))
