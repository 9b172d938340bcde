"""What operators and tools ask of the gateway itself: health, metrics, the API's description."""

from __future__ import annotations

from starlette.routing import Route

from aidevos.contracts.errors import Failure
from aidevos.observability import metrics

from ..answers import JSON_HEADER, Answer
from ..docs import Docs
from ..document import Document
from ..health import Readiness
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known


class OperationRouter:
    """`/health`, `/metrics`, `/openapi.json`, `/asyncapi.json` and `/docs`."""

    def __init__(self, readiness: Readiness, openapi: Document, asyncapi: Document) -> None:
        self._readiness = readiness
        self._openapi = openapi
        self._asyncapi = asyncapi
        self._docs = Docs()

    def routes(self, fleet: Guard) -> list[Route]:
        return [
            Route("/health/live", Resource(get=self.live)),
            Route("/health/ready", Resource(get=self.ready)),
            Route("/openapi.json", Resource(get=self.openapi)),
            Route("/asyncapi.json", Resource(get=self.asyncapi)),
            Route("/docs", Resource(get=self._docs.page)),
            Route("/docs/{file}", Resource(get=self._docs.file)),
            Route("/metrics", Resource(fleet, get=self.metrics)),
        ]

    async def live(self, incoming: Incoming) -> Answer:
        return Answer(200, b'{"ok":true}')

    async def ready(self, incoming: Incoming) -> Answer:
        troubles = await self._readiness.troubles()
        if troubles:
            detail = "; ".join(f"{name}: {trouble}" for name, trouble in troubles.items())
            raise Failure("unavailable", f"not ready: {detail}", extra={"services": troubles})
        return Answer(200, b'{"ok":true}')

    async def openapi(self, incoming: Incoming) -> Answer:
        return _shown(incoming, self._openapi)

    async def asyncapi(self, incoming: Incoming) -> Answer:
        return _shown(incoming, self._asyncapi)

    async def metrics(self, incoming: Incoming) -> Answer:
        if incoming.principal.project:
            raise Failure("forbidden", "this API key counts in its project alone")
        return Answer(200, metrics.exposition(), ((b"content-type", metrics.CONTENT_TYPE.encode()),))


def _shown(incoming: Incoming, document: Document) -> Answer:
    content, etag = document.current()
    headers = (JSON_HEADER, (b"cache-control", b"no-cache"), (b"etag", etag.encode()))
    return unless_known(incoming, Answer(200, content, headers))
