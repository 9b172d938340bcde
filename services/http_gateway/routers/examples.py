"""Pages of the examples in services/objects."""

from __future__ import annotations

from starlette.routing import Route

from services.http_gateway.answers import Answer
from services.http_gateway.pages import page
from services.http_gateway.resource import Incoming, Resource


class ExampleRouter:
    """`/examples`."""

    def __init__(self) -> None:
        self._chat = page("chat.html")

    def routes(self) -> list[Route]:
        return [Route("/examples/chat", Resource(parameters=("room",), get=self.chat))]

    async def chat(self, incoming: Incoming) -> Answer:
        return self._chat
