"""`/users`: profiles. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects, users
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import EraseUserBody, ReplaceUserBody

from .. import bodies
from ..answers import Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

ME = "me"
PARAMETERS = ("limit", "cursor", "q", "role", "status", "sort")
BODY_LIMIT = 64 * 1024


_replace = msgspec.json.Decoder(ReplaceUserBody)
_erase = msgspec.json.Decoder(EraseUserBody)
_patch = msgspec.json.Decoder(dict[str, msgspec.Raw])


class UserRouter:
    """`/users/{user_id}`; `me` is whoever asks."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        return [
            Route("/users", Resource(known, parameters=PARAMETERS, get=self.search)),
            Route("/users/{user_id}/sessions/{session_id}", Resource(known, delete=self.end_session)),
            Route("/users/{user_id}/sessions", Resource(known, get=self.sessions, delete=self.end_sessions)),
            Route("/users/{user_id}/activate", Resource(known, post=self.activate)),
            Route("/users/{user_id}/deactivate", Resource(known, post=self.deactivate)),
            Route(
                "/users/{user_id}",
                Resource(known, get=self.read, put=self.replace, patch=self.patch, delete=self.erase),
            ),
        ]

    async def search(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._calls.search(incoming, subjects.query(users.TYPE, users.SEARCH)))

    async def read(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, await self._call(incoming, "read", b"{}"))

    async def replace(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT)
        bodies.decode(_replace, body, "settings")
        return await self._call(incoming, "replace", body)

    async def patch(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT, patches=(bodies.MERGE_PATCH,))
        bodies.decode(_patch, body, "settings")
        return await self._call(incoming, "patch", b'{"patch":%b}' % body, within="args.patch")

    async def activate(self, incoming: Incoming) -> Answer:
        return await self._call(incoming, "activate", b"{}")

    async def deactivate(self, incoming: Incoming) -> Answer:
        return await self._call(incoming, "deactivate", b"{}")

    async def erase(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT) or b"{}"
        bodies.decode(_erase, body, "body")
        await self._request(incoming, "erase", body)
        return Answer(204, headers=())

    async def sessions(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._request(incoming, "sessions", b"{}"))

    async def end_session(self, incoming: Incoming) -> Answer:
        session = incoming.path["session_id"]
        if not subjects.is_id(session):
            raise Failure("not-found", "there is no such session")
        await self._request(incoming, "end_session", msgspec.json.encode({"session": session}))
        return Answer(204, headers=())

    async def end_sessions(self, incoming: Incoming) -> Answer:
        await self._request(incoming, "end_sessions", b"{}")
        return Answer(204, headers=())

    async def _call(self, incoming: Incoming, method: str, payload: bytes, within: str = "args") -> Answer:
        return versioned(await self._request(incoming, method, payload, within))

    async def _request(self, incoming: Incoming, method: str, payload: bytes, within: str = "args") -> bytes:
        subject = subjects.call(users.TYPE, _id(incoming), method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), within)


def _id(incoming: Incoming) -> str:
    id: str = incoming.path["user_id"]
    if id == ME:
        id = incoming.principal.subject
    if not subjects.is_id(id):
        raise Failure("not-found", "there is no such user")
    return id
