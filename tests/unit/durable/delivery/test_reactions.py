"""Objects react to each other's events once each and in order; unhandled events become dead letters."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, CloudEvent, Failure, on
from aidevos.durable.objects.registry import DurableObjectRegistry, ObjectType
from aidevos.testing import ObjectKit
from services.http_gateway.description import asyncapi
from tests.support.described_types import assert_sound
from tests.support.kits import until
from tests.support.shop import Added, Basket, Nothing, Stock, event


@pytest.fixture
async def kit() -> Any:
    Stock.failures.clear()
    async with ObjectKit(Basket, Stock) as kit:
        yield kit


async def state(kit: ObjectKit, id: str = "tea") -> Any:
    return (await kit.call("stock", id, "_read"))["state"]


async def published(kit: ObjectKit, payload: bytes, id: str = "basket:a:1", basket: str = "a") -> None:
    scope = f"event.basket.{basket}.>"
    sequence, number = await kit.bus.read_last(scope)
    await kit.bus.publish(f"event.basket.{basket}.added", payload, id, number=number + 1, scope=scope, after=sequence)
    await kit.settle()


async def test_an_event_reaches_the_object_that_its_key_names_in_the_emitter_s_order(kit: ObjectKit) -> None:
    for count in (1, 2, 3):
        await kit.call("basket", "a", "add", sku="tea", count=count)
    await kit.call("basket", "a", "add", sku="a name, no ID")
    await kit.settle()
    assert (await state(kit))["counts"] == [1, 2, 3]
    ids = await kit.store.list_page("stock", "", 10)
    assert len(ids) == 2


async def test_without_a_key_it_reaches_the_object_of_the_emitter_s_id(kit: ObjectKit) -> None:
    await kit.call("basket", "a", "add", sku="tea", count=4)
    await kit.settle()
    assert (await state(kit))["seen"][-1] == "counted 4"


async def test_an_event_may_name_its_project_and_its_trace(kit: ObjectKit) -> None:
    extended = msgspec.json.decode(event({"sku": "tea", "count": 4})) | {"project": "p", "traceparent": "00-1-1-01"}
    await published(kit, msgspec.json.encode(extended))
    assert (await state(kit))["counts"] == [4]
    assert kit.letters == {}


async def test_an_event_that_comes_again_takes_effect_once(kit: ObjectKit) -> None:
    for _ in range(3):
        await published(kit, event({"sku": "tea", "count": 7}))
    assert (await state(kit))["counts"] == [7]


async def test_what_fails_for_a_while_is_tried_again(kit: ObjectKit) -> None:
    Stock.failures[:] = [Failure("overloaded", "not now", retry_after=0.01)]
    await published(kit, event({"sku": "tea"}))
    assert (await state(kit))["counts"] == [1]
    assert kit.letters == {}


async def test_what_the_method_refuses_is_a_dead_letter_that_can_be_sent_again(kit: ObjectKit) -> None:
    Stock.failures[:] = [Failure("out-of-stock", "none left", status=409)]
    await published(kit, event({"sku": "tea", "count": 2}))
    (letter,) = kit.letters.values()
    assert (letter.kind, letter.source, letter.subject) == ("event", "basket:a", "do.stock.tea.sold")
    assert (letter.code, letter.detail, letter.attempts) == ("out-of-stock", "none left", 1)
    await kit.request(letter.subject, letter.payload)
    await kit.settle()
    assert (await state(kit))["counts"] == [2]


@pytest.mark.parametrize("payload", [b"no JSON", b"{}", event({"count": 1}), event({"sku": ""})])
async def test_an_event_that_nobody_can_read_is_a_dead_letter_and_those_behind_it_come(
    kit: ObjectKit, payload: bytes
) -> None:
    await published(kit, payload)
    await published(kit, event({"sku": "tea"}, "basket:a:2"), "basket:a:2")
    (letter,) = kit.letters.values()
    assert (letter.kind, letter.subject, letter.payload) == ("event", "do.stock.a.sold", b'{"event":' + payload + b"}")
    assert (await state(kit))["counts"] == [1]


async def test_a_replay_at_another_object_is_passed_on_to_the_right_one(kit: ObjectKit) -> None:
    await kit.request("do.stock.a.sold", b'{"event":' + event({"sku": "tea", "count": 5}) + b"}")
    await kit.settle()
    assert (await state(kit))["counts"] == [5]


async def test_events_wait_while_nobody_serves_the_type(kit: ObjectKit) -> None:
    await kit.__aexit__(None, None, None)
    async with ObjectKit(Basket, store=kit.store, bus=kit.bus) as alone:
        await alone.call("basket", "a", "add", sku="tea")
        await until(lambda: not kit.bus.is_idle)
    async with ObjectKit(Basket, Stock, store=kit.store, bus=kit.bus) as again:
        await again.settle()
        assert (await state(again))["counts"] == [1]


async def test_only_services_may_call_the_method(kit: ObjectKit) -> None:
    with pytest.raises(Failure) as raised:
        await kit.call("stock", "tea", "sold", event=msgspec.json.decode(event({"sku": "tea"})))
    assert raised.value.code == "forbidden"


@pytest.mark.parametrize(
    "pattern", ["event", "item.*.created", "event.Item.*.created", "event.*", "event.a.>.b", "do.>"]
)
def test_what_is_no_pattern_of_events_is_refused(pattern: str) -> None:
    with pytest.raises(TypeError, match="not an event pattern"):
        on(pattern)


def test_a_method_that_reacts_has_one_parameter() -> None:
    class Wrong(BaseDurableObject[Nothing], type="wrong"):
        @on("event.>")
        async def react(self, event: CloudEvent[Added], more: int) -> None: ...

    with pytest.raises(TypeError, match="one parameter, event"):
        DurableObjectRegistry([Wrong])


def test_the_description_tells_what_a_type_reacts_to_and_what_it_emits_there() -> None:
    described = ObjectType(Stock).description
    told = sorted((each.pattern, each.method, each.doc) for each in described.reactions)
    assert told == [("event.basket.*.added", "sold", "Count a sale."), ("event.stock.*.counted", "counted", "")]
    assert [each.name for each in described.events] == ["counted"]


def test_the_description_of_the_nats_api_tells_it_too() -> None:
    class Watcher(BaseDurableObject[Nothing], type="watcher"):
        @on("event.>")
        async def all(self, event: CloudEvent[Any]) -> None: ...

        @on("event.basket.one.*")
        async def one(self, event: CloudEvent[Any]) -> None: ...

    document = asyncapi.describe([ObjectType(cls).description for cls in (Stock, Watcher, Basket)])
    assert_sound(document)
    received = {
        key: document["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
        for key, operation in document["operations"].items()
        if key.startswith("on.")
    }
    assert {key: channel["address"] for key, channel in received.items()} == {
        "on.stock.sold": "event.basket.{id}.added",
        "on.stock.counted": "event.stock.{id}.counted",
        "on.watcher.all": "event.{type}.{id}.{name}",
        "on.watcher.one": "event.basket.one.{name}",
    }
    data = received["on.stock.sold"]["messages"]["event"]["payload"]["allOf"][1]["properties"]["data"]
    assert data == {"$ref": "#/components/schemas/basket-Added"}
