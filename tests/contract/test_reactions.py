"""Objects react to events in the same way on every bus, even to unreadable ones."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from aidevos.durable.delivery.reactions import Reactions
from aidevos.testing import ObjectKit
from tests.support.kits import until
from tests.support.shop import Basket, Stock, event


async def test_a_poison_event_ends_as_a_dead_letter_and_replays(bus: Any) -> None:
    Stock.failures.clear()
    basket, sku = secrets.token_hex(6), secrets.token_hex(6)
    async with ObjectKit(Basket, Stock) as kit:
        reactions = Reactions(kit.registry, bus, kit, kit.clock, attempts=2)
        await reactions.start()

        async def publish(number: int, payload: bytes) -> None:
            scope = f"event.basket.{basket}.>"
            after, _ = await bus.read_last(scope)
            id = f"basket:{basket}:{number}"
            await bus.publish(f"event.basket.{basket}.added", payload, id, number=number, scope=scope, after=after)

        await publish(1, b"no JSON")
        await publish(2, event({"sku": sku, "count": 3}))
        # A missing count defaults to one; without an SKU there is no key.
        await publish(3, event({"count": 1}))
        await asyncio.wait_for(_seen(kit, sku), 8)
        await until(lambda: len(kit.letters) >= 2)
        await reactions.close()
        unread, keyless = kit.letters.values()

        assert (unread.kind, unread.source, unread.code) == ("event", f"basket:{basket}", "bad-request")
        assert unread.payload == b'{"event":no JSON}'
        mended = keyless.payload.replace(b'"count":1', b'"count":4,"sku":"%s"' % sku.encode())
        await kit.request(keyless.subject, mended)
        await kit.settle()
        assert (await kit.call("stock", sku, "_read"))["state"]["counts"] == [3, 4]


async def _seen(kit: ObjectKit, sku: str) -> None:
    while not kit.store.documents["stock"].get(sku):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
