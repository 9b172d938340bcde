"""`/users`: profiles. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

from starlette.routing import Route

from aidevos.contracts import subjects, users
from aidevos.contracts.errors import Failure
from services.http_gateway.answers import Answer
from services.http_gateway.calls import Calls
from services.http_gateway.resource import Guard, Incoming, Resource

ME = "me"


class UserRouter:
    """`/users/{user_id}`; `me` is whoever asks."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        return [Route("/users/{user_id}", Resource(known, get=self.read))]

    async def read(self, incoming: Incoming) -> Answer:
        subject = subjects.call(users.TYPE, _id(incoming), "read")
        return Answer(200, await self._calls.request(subject, b"{}", self._calls.options(incoming)))


def _id(incoming: Incoming) -> str:
    id: str = incoming.path["user_id"]
    if id == ME:
        id = incoming.principal.subject
    if not subjects.is_id(id):
        raise Failure("not-found", "there is no such user")
    return id
