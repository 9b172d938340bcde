"""`/api-keys`. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from aidevos.contracts import api_keys, subjects
from aidevos.contracts.api_keys import CreateApiKeyBody, RotateBody
from aidevos.contracts.errors import Failure

from .. import bodies
from ..answers import SECRET, Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

BODY_LIMIT = 64 * 1024

_create = msgspec.json.Decoder(CreateApiKeyBody)
_rotate = msgspec.json.Decoder(RotateBody)
_patch = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ApiKeyRouter:
    """`/api-keys`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        return [
            Route(
                "/api-keys",
                Resource(known, parameters=("limit", "cursor", "owner"), get=self.search, post=self.create),
            ),
            Route("/api-keys/{key_id}/rotate", Resource(known, post=self.rotate)),
            Route("/api-keys/{key_id}", Resource(known, get=self.read, patch=self.patch, delete=self.revoke)),
        ]

    async def search(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._calls.search(incoming, subjects.query(api_keys.TYPE, api_keys.SEARCH)))

    async def create(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT)
        bodies.decode(_create, body, "body")
        id = self._calls.new_id(incoming, api_keys.TYPE)
        reply = await self._call(incoming, id, "create", body)
        return versioned(reply, 201, *SECRET, (b"location", f"/api-keys/{id}".encode()))

    async def read(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._call(incoming, _id(incoming), "read", b"{}")))

    async def patch(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT, patches=(bodies.MERGE_PATCH,))
        bodies.decode(_patch, body, "body")
        reply = await self._call(incoming, _id(incoming), "patch", b'{"patch":%b}' % body, within="args.patch")
        return versioned(reply)

    async def rotate(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT) or b"{}"
        bodies.decode(_rotate, body, "body")
        reply = await self._call(incoming, _id(incoming), "rotate", body)
        return versioned(reply, 200, *SECRET)

    async def revoke(self, incoming: Incoming) -> Answer:
        await self._call(incoming, _id(incoming), "revoke", b"{}")
        return Answer(204, headers=())

    async def _call(self, incoming: Incoming, id: str, method: str, payload: bytes, within: str = "args") -> bytes:
        subject = subjects.call(api_keys.TYPE, id, method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), within)


def _id(incoming: Incoming) -> str:
    id: str = incoming.path["key_id"]
    if not subjects.is_id(id):
        raise Failure("not-found", "there is no such API key")
    return id
