"""The bus delivers to webhooks only what some webhook wants, and a new one misses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.times import rfc3339_of
from aidevos.contracts.webhooks import CHANGED, WebhookInfo, WebhookPage, delivery_id
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import Delivery
from services.events.fan_out import GROUP, FanOut
from services.events.subscriptions import MOST, Subscriptions
from tests.support import webhooks
from tests.support.kits import until

# Seconds since the epoch.
NOW = time.time()
webhook = partial(webhooks.webhook, created_at=rfc3339_of(NOW))


class Owners:
    async def may_see(self, *asked: Any) -> bool:
        return True


class Fleet:
    """The webhooks, and the deliveries that were begun. With `gate`, the webhooks are read only once it is set."""

    def __init__(self) -> None:
        self.webhooks: list[WebhookInfo] = []
        self.begun: list[str] = []
        self.down = False

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        assert subject == "query.webhook.search"
        return msgspec.json.encode(WebhookPage(items=self.webhooks))

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> None:
        if self.down:
            raise Failure("unavailable", "down on purpose")
        if id not in self.begun:
            self.begun.append(id)


class WatchedBus(MemoryBus):
    """A bus that records what its group has selected, and does `before_select` once."""

    def __init__(self) -> None:
        super().__init__()
        self.selected: list[Sequence[str]] = []
        self.before_select: Any = None

    async def select(self, pattern: str, group: str, wanted: Sequence[str]) -> None:
        before, self.before_select = self.before_select, None
        if before is not None:
            await before()
        self.selected.append(wanted)
        await super().select(pattern, group, wanted)

    @property
    def waiting(self) -> int:
        return len(self._groups[subjects.EVENTS, GROUP])

    async def emit(self, type: str, id: str, name: str, at: float = NOW) -> str:
        """Publish an event of an object, and return its ID."""
        scope = subjects.events_of(type, id)
        last, number = await self.read_last(scope)
        event_id = f"{type}:{id}:{number + 1}"
        payload = {
            "specversion": "1.0",
            "id": event_id,
            "source": "s",
            "type": f"{type}.{name}",
            "time": rfc3339_of(at),
            "datacontenttype": "j",
            "data": {},
        }
        subject, encoded = subjects.event(type, id, name), msgspec.json.encode(payload)
        await self.publish(subject, encoded, event_id, number=number + 1, scope=scope, after=last)
        return event_id


@pytest.fixture
def bus() -> WatchedBus:
    return WatchedBus()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@contextlib.asynccontextmanager
async def running(bus: WatchedBus, fleet: Fleet) -> AsyncIterator[None]:
    known = len(bus.selected)
    task = asyncio.ensure_future(FanOut(bus, fleet, Owners()).run())  # type: ignore[arg-type]
    await until(lambda: len(bus.selected) > known or task.done())
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_without_webhooks_the_bus_delivers_only_their_changes(bus: WatchedBus, fleet: Fleet) -> None:
    async with running(bus, fleet):
        await bus.emit("counter", "a", "changed")
        assert bus.waiting == 0
        assert bus.selected == [[CHANGED]]


async def test_a_webhook_gets_what_it_wants_from_its_creation_on(bus: WatchedBus, fleet: Fleet) -> None:
    async with running(bus, fleet):
        await bus.emit("counter", "a", "changed", at=NOW - 10)
        fleet.webhooks = [webhook("w", "counter.changed")]
        missed = await bus.emit("counter", "b", "changed")
        await bus.emit("webhook", "w", "changed")
        await until(lambda: bus.selected[-1] == [CHANGED, "event.counter.*.changed"])
        seen = await bus.emit("counter", "c", "changed")
        await bus.emit("counter", "c", "closed")
        await until(lambda: len(fleet.begun) == 2)
        assert fleet.begun == [delivery_id("w", missed), delivery_id("w", seen)]


async def test_an_event_that_comes_just_before_the_bus_selects_it_is_not_missed(bus: WatchedBus, fleet: Fleet) -> None:
    async with running(bus, fleet):
        fleet.webhooks = [webhook("w", "counter.*")]
        bus.before_select = lambda: bus.emit("counter", "a", "changed")
        await bus.emit("webhook", "w", "changed")
        await until(lambda: fleet.begun)
        assert fleet.begun == [delivery_id("w", "counter:a:1")]


async def test_a_webhook_that_appears_during_the_selection_is_selected_too(bus: WatchedBus, fleet: Fleet) -> None:
    async with running(bus, fleet):
        fleet.webhooks = [webhook("v", "task.*")]

        async def appear() -> None:
            fleet.webhooks = [*fleet.webhooks, webhook("w", "counter.*")]

        bus.before_select = appear
        await bus.emit("webhook", "v", "changed")
        await until(lambda: bus.selected[-1] == [CHANGED, "event.counter.>", "event.task.>"])


async def test_a_change_whose_process_dies_is_finished_by_the_next_one(bus: WatchedBus, fleet: Fleet) -> None:
    async with running(bus, fleet):
        fleet.down = True
        fleet.webhooks = [webhook("w", "counter.*")]
        await bus.emit("counter", "a", "changed")
        await bus.emit("webhook", "w", "changed")
        await until(lambda: len(bus.selected) == 2)
    fleet.down = False
    async with running(bus, fleet):
        await until(lambda: fleet.begun)
        assert fleet.begun == [delivery_id("w", "counter:a:1")]


async def test_a_change_is_never_given_up(bus: WatchedBus, fleet: Fleet) -> None:
    fan: Any = FanOut(bus, fleet, Owners())  # type: ignore[arg-type]
    change = Delivery("event.webhook.w.changed", b"{}", "webhook:w:1")
    with pytest.raises(Failure):
        await fan.bury(change, Failure("unavailable", "failed 50 times"))


async def test_what_no_webhook_wants_any_more_is_no_longer_delivered(bus: WatchedBus, fleet: Fleet) -> None:
    fleet.webhooks = [webhook("w", "counter.*")]
    async with running(bus, fleet):
        assert bus.selected[0] == [CHANGED, "event.counter.>"]
        fleet.webhooks = []
        await bus.emit("webhook", "w", "changed")
        await until(lambda: bus.selected[-1] == [CHANGED])


def test_patterns_do_not_overlap() -> None:
    assert Subscriptions().patterns() == []
    hooks = [webhook("a", "item.created", "item.*", "task.queued"), webhook("b", "task.queued", "webhook.changed")]
    assert Subscriptions(hooks).patterns() == ["event.item.>", "event.task.*.queued"]
    assert Subscriptions([*hooks, webhook("c", "*")]).patterns() == [subjects.EVENTS]


def test_many_patterns_become_one() -> None:
    hooks = [webhook(f"w{number}", f"item.n{number}") for number in range(MOST + 1)]
    assert len(Subscriptions(hooks[:MOST]).patterns()) == MOST
    assert Subscriptions(hooks).patterns() == [subjects.EVENTS]
