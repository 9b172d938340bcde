"""Objects that react to each other's events."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from aidevos import BaseDurableObject, CloudEvent, Event, command, on, permission


class Added(Event):
    sku: str
    count: int = 1


class Counted(Event):
    """Items of one SKU were counted."""

    total: int


class Nothing(msgspec.Struct):
    pass


class Basket(BaseDurableObject[Nothing], type="basket"):
    @command(allow=permission("basket:write"))
    async def add(self, sku: str, count: int = 1) -> None:
        self.emit(Added(sku=sku, count=count))


class StockState(msgspec.Struct):
    counts: list[int] = []
    seen: list[str] = []


class Stock(BaseDurableObject[StockState], type="stock", management="raw"):
    failures: ClassVar[list[BaseException]] = []

    @on("event.basket.*.added", key=lambda event: event.data.sku)
    async def sold(self, event: CloudEvent[Added]) -> None:
        """Count a sale."""
        if self.failures:
            raise self.failures.pop(0)
        self.state.counts.append(event.data.count)
        self.state.seen.append(event.id)
        self.emit(Counted(total=sum(self.state.counts)))

    @on("event.stock.*.counted")
    async def counted(self, event: CloudEvent[Counted]) -> None:
        self.state.seen.append(f"counted {event.data.total}")


def event(data: Any, id: str = "basket:a:1") -> bytes:
    shown = CloudEvent(id=id, source="/durable-objects/basket:a", type="basket.added", time="2027-01-15", data=data)
    return msgspec.json.encode(shown)
