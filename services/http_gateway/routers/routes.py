"""`/routes`: declared routes. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from aidevos.contracts import routes, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.routes import RouteBody

from .. import bodies
from ..answers import Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

BODY_LIMIT = 16 * 1024

_route = msgspec.json.Decoder(RouteBody)


class RouteRouter:
    """`/routes` and `/routes/{id}`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        return [
            Route("/routes", Resource(known, parameters=("limit", "cursor"), get=self.search, post=self.create)),
            Route("/routes/{route_id}", Resource(known, get=self.read, put=self.replace, delete=self.remove)),
        ]

    async def search(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._calls.search(incoming, routes.LIST_SUBJECT))

    async def create(self, incoming: Incoming) -> Answer:
        payload = await incoming.body(BODY_LIMIT)
        body = bodies.decode(_route, payload, "body")
        await self._calls.use_key(incoming, payload)
        id = routes.route_id(body.method, body.path)
        reply = await self._call(incoming, id, "create", payload)
        return versioned(reply, 201, (b"location", f"/routes/{id}".encode()))

    async def read(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._call(incoming, _id(incoming), "read")))

    async def replace(self, incoming: Incoming) -> Answer:
        payload = await incoming.body(BODY_LIMIT)
        bodies.decode(_route, payload, "body")
        return versioned(await self._call(incoming, _id(incoming), "replace", payload))

    async def remove(self, incoming: Incoming) -> Answer:
        await self._call(incoming, _id(incoming), "remove")
        return Answer(204, headers=())

    async def _call(self, incoming: Incoming, id: str, method: str, body: bytes = b"") -> bytes:
        payload = b'{"route":%b}' % body if body else b"{}"
        subject = subjects.call(routes.TYPE, id, method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), "args.route")


def _id(incoming: Incoming) -> str:
    id: str = incoming.path["route_id"]
    if not subjects.is_id(id):
        raise Failure("not-found", "there is no such route")
    return id
