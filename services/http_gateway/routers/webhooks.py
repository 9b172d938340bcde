"""`/webhooks`. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects, webhooks
from aidevos.contracts.errors import Failure
from aidevos.contracts.webhooks import RotateSecretBody, WebhookBody

from .. import bodies, parameters
from ..answers import SECRET, Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

BODY_LIMIT = 64 * 1024

_create = msgspec.json.Decoder(WebhookBody)
_rotate = msgspec.json.Decoder(RotateSecretBody)
_patch = msgspec.json.Decoder(dict[str, msgspec.Raw])


class WebhookRouter:
    """`/webhooks`, and the log of what they were sent."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        webhook = "/webhooks/{webhook_id}"
        listing = ("limit", "cursor", "status", "sort")
        return [
            Route(
                "/webhooks",
                Resource(known, parameters=("limit", "cursor", "owner"), get=self.search, post=self.create),
            ),
            Route(webhook, Resource(known, get=self.read, patch=self.patch, delete=self.remove)),
            Route(f"{webhook}/rotate-secret", Resource(known, post=self.rotate)),
            Route(f"{webhook}/test", Resource(known, post=self.test)),
            Route(f"{webhook}/deliveries", Resource(known, parameters=listing, get=self.deliveries)),
            Route(f"{webhook}/deliveries/{{delivery_id}}", Resource(known, get=self.read_delivery)),
            Route(f"{webhook}/deliveries/{{delivery_id}}/replay", Resource(known, post=self.replay)),
        ]

    async def search(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._calls.search(incoming, subjects.query(webhooks.TYPE, webhooks.SEARCH)))

    async def create(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT)
        bodies.decode(_create, body, "body")
        id = self._calls.new_id(incoming, webhooks.TYPE)
        subject = subjects.call(webhooks.TYPE, id, "create")
        reply = await self._calls.arguments(subject, body, self._calls.options(incoming))
        return versioned(reply, 201, *SECRET, (b"location", f"/webhooks/{id}".encode()))

    async def read(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._webhook(incoming, "read")))

    async def patch(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT, patches=(bodies.MERGE_PATCH,))
        bodies.decode(_patch, body, "body")
        return versioned(await self._webhook(incoming, "patch", b'{"patch":%b}' % body, within="args.patch"))

    async def remove(self, incoming: Incoming) -> Answer:
        await self._webhook(incoming, "remove")
        return Answer(204, headers=())

    async def rotate(self, incoming: Incoming) -> Answer:
        body = await incoming.body(BODY_LIMIT) or b"{}"
        bodies.decode(_rotate, body, "body")
        return versioned(await self._webhook(incoming, "rotate_secret", body), 200, *SECRET)

    async def test(self, incoming: Incoming) -> Answer:
        return Answer(202, await self._webhook(incoming, "test"))

    async def deliveries(self, incoming: Incoming) -> Answer:
        return Answer(200, await self._webhook(incoming, "deliveries", parameters.page(incoming.parameters)))

    async def read_delivery(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._delivery(incoming, "read")))

    async def replay(self, incoming: Incoming) -> Answer:
        return versioned(await self._delivery(incoming, "replay"), 202)

    async def _webhook(self, incoming: Incoming, method: str, payload: bytes = b"{}", within: str = "args") -> bytes:
        subject = subjects.call(webhooks.TYPE, _id(incoming, "webhook"), method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), within)

    async def _delivery(self, incoming: Incoming, method: str) -> bytes:
        payload = msgspec.json.encode({"webhook": _id(incoming, "webhook")})
        subject = subjects.call(webhooks.DELIVERY_TYPE, _id(incoming, "delivery"), method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming))


def _id(incoming: Incoming, what: str) -> str:
    id: str = incoming.path[f"{what}_id"]
    if not subjects.is_id(id):
        raise Failure("not-found", f"there is no such {what}")
    return id
