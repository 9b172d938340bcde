"""`/dead-letters`. Each request is one call of a letter, or the search over them; no rule lives here."""

from __future__ import annotations

from starlette.routing import Route

from aidevos.contracts import dead_letters, subjects
from aidevos.contracts.errors import Failure

from ..answers import Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

PARAMETERS = ("limit", "cursor", "kind", "status", "source", "to", "sort")


class DeadLetterRouter:
    """`/dead-letters` and `/dead-letters/{id}`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        return [
            Route("/dead-letters", Resource(known, parameters=PARAMETERS, get=self.search)),
            Route("/dead-letters/{letter_id}", Resource(known, get=self.read, delete=self.remove)),
            Route("/dead-letters/{letter_id}/replay", Resource(known, post=self.replay)),
        ]

    async def search(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._calls.search(incoming, subjects.query(dead_letters.TYPE, dead_letters.SEARCH)))

    async def read(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._call(incoming, "read")))

    async def replay(self, incoming: Incoming) -> Answer:
        return versioned(await self._call(incoming, "replay"), 202)

    async def remove(self, incoming: Incoming) -> Answer:
        await self._call(incoming, "remove")
        return Answer(204, headers=())

    async def _call(self, incoming: Incoming, method: str) -> bytes:
        id: str = incoming.path["letter_id"]
        if not subjects.is_id(id):
            raise Failure("not-found", "there is no such letter")
        subject = subjects.call(dead_letters.TYPE, id, method)
        return await self._calls.request(subject, b"{}", self._calls.options(incoming))
