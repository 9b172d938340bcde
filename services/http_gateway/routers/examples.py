"""Pages of the examples in services/objects."""

from __future__ import annotations

from starlette.routing import Route

from ..answers import Answer
from ..pages import page
from ..resource import Incoming, Resource


class ExampleRouter:
    """`/examples`."""

    def __init__(self) -> None:
        self._chat = page("chat.html")

    def routes(self) -> list[Route]:
        return [Route("/examples/chat", Resource(parameters=("room",), get=self.chat))]

    async def chat(self, incoming: Incoming) -> Answer:
        return self._chat
