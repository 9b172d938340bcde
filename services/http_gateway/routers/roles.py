"""`/roles`: what roles allow. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

import re

import msgspec
from starlette.routing import Route

from aidevos.contracts import roles, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.roles import CreateRoleBody, ReplaceRoleBody

from .. import bodies
from ..answers import Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

BODY_LIMIT = 64 * 1024

_create = msgspec.json.Decoder(CreateRoleBody)
_replace = msgspec.json.Decoder(ReplaceRoleBody)
_is_name = re.compile(roles.NAME_PATTERN).fullmatch


class RoleRouter:
    """`/roles` and `/roles/{name}`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        return [
            Route("/roles", Resource(known, parameters=("limit", "cursor"), get=self.search, post=self.create)),
            Route("/roles/{name}", Resource(known, get=self.read, put=self.replace, delete=self.remove)),
        ]

    async def search(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._calls.search(incoming, roles.LIST_SUBJECT))

    async def create(self, incoming: Incoming) -> Answer:
        content = await incoming.body(BODY_LIMIT)
        body = bodies.decode(_create, content, "permissions")
        await self._calls.use_key(incoming, content)
        wanted = msgspec.json.encode({"permissions": body.permissions, "description": body.description})
        reply = await self._call(incoming, body.name, "create", wanted)
        return versioned(reply, 201, (b"location", f"/roles/{body.name}".encode()))

    async def read(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._call(incoming, _name(incoming), "read", b"{}")))

    async def replace(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT)
        bodies.decode(_replace, body, "permissions")
        return versioned(await self._call(incoming, _name(incoming), "replace", body))

    async def remove(self, incoming: Incoming) -> Answer:
        await self._call(incoming, _name(incoming), "remove", b"{}")
        return Answer(204, headers=())

    async def _call(self, incoming: Incoming, name: str, method: str, payload: bytes) -> bytes:
        subject = subjects.call(roles.TYPE, name, method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming))


def _name(incoming: Incoming) -> str:
    name: str = incoming.path["name"]
    if not _is_name(name):
        raise Failure("not-found", "there is no such role")
    return name
