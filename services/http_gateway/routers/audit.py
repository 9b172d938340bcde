"""`GET /audit`: the security log. The search is the host's; no rule lives here."""

from __future__ import annotations

from starlette.routing import Route

from aidevos.contracts import audit, subjects

from ..answers import Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource

PARAMETERS = ("limit", "cursor", "actor", "target", "action", "outcome", "from", "to", "sort")


class AuditRouter:
    """`/audit`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, readers: Guard) -> list[Route]:
        return [Route("/audit", Resource(readers, parameters=PARAMETERS, get=self.search))]

    async def search(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._calls.search(incoming, subjects.query(audit.TYPE, audit.SEARCH)))
