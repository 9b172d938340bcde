"""Resources: opened once per process in the order of their needs, injected by type, and replaced in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NewType

import msgspec
import pytest

from aidevos import BaseDurableObject, Service, anyone, command, inject, query, resource
from aidevos.durable.objects.declaration import View
from aidevos.durable.objects.reader import Reader
from aidevos.durable.objects.resources import Resource, open_resources
from aidevos.settings import Settings, load
from aidevos.testing import ObjectKit

EVENTS: list[str] = []


class Pool:
    """Fake connections to a database."""

    def __init__(self, name: str) -> None:
        self.name = name


class Prices:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool


Backup = NewType("Backup", Pool)


@resource
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    EVENTS.append("open pool")
    yield Pool(settings.mongo_database)
    EVENTS.append("close pool")


@resource
async def prices(pool: Pool) -> AsyncIterator[Prices]:
    EVENTS.append("open prices")
    yield Prices(pool)
    EVENTS.append("close prices")


@resource
async def backup() -> AsyncIterator[Backup]:
    yield Backup(Pool("backup"))


class CartState(msgspec.Struct):
    total: int = 0


class Asked(msgspec.Struct):
    id: str = ""


async def answer_pool(reader: Reader, args: Asked, pool: Pool) -> str:
    return pool.name


class Stocked(BaseDurableObject[CartState]):
    pool: Pool = inject()


class Cart(Stocked, type="cart"):
    """A cart."""

    prices: Prices = inject()
    views = (View("pool", anyone(), Asked, answer_pool),)

    @query(allow=anyone())
    async def pools(self) -> list[str]:
        return [self.pool.name, self.prices.pool.name]


class Plain(BaseDurableObject[CartState], type="plain"):
    """Needs nothing."""

    @command(allow=anyone())
    async def name(self) -> str:
        return type(self).__name__


class Vault(BaseDurableObject[CartState], type="vault"):
    pool: Pool = inject()
    backup: Backup = inject()

    @query(allow=anyone())
    async def pools(self) -> list[str]:
        return [self.pool.name, self.backup.name]


@pytest.fixture(autouse=True)
def _no_events() -> None:
    EVENTS.clear()


def settings(home: Path, database: str = "shop") -> Settings:
    return load({}, home=home, mongo_database=database)


async def test_a_resource_opens_after_what_it_needs_and_closes_before_it(tmp_path: Path) -> None:
    async with ObjectKit(Cart, settings=settings(tmp_path), resources=[prices, pool]) as kit:
        opened = EVENTS.copy()
        named = await kit.call("cart", "a", "pools")

    assert named == ["shop", "shop"]
    assert opened == ["open pool", "open prices"]
    assert EVENTS[2:] == ["close prices", "close pool"]


async def test_what_is_open_is_closed_when_another_resource_fails_to_open(tmp_path: Path) -> None:
    @resource
    async def broken() -> AsyncIterator[Prices]:
        raise OSError("no such host")
        yield

    with pytest.raises(OSError, match="no such host"):
        async with open_resources([pool, broken], {Settings: settings(tmp_path)}):
            pass
    assert EVENTS == ["open pool", "close pool"]


async def test_two_configurations_live_in_one_process(tmp_path: Path) -> None:
    shop = Service("objects", types=[Cart], resources=[pool, prices])
    async with ObjectKit(shop, settings=settings(tmp_path, "one")) as first:
        async with ObjectKit(shop, settings=settings(tmp_path, "two")) as second:
            assert await first.call("cart", "a", "pools") == ["one", "one"]
            assert await second.call("cart", "a", "pools") == ["two", "two"]
        assert await first.call("cart", "b", "pools") == ["one", "one"]
    with pytest.raises(AttributeError, match=r"Cart\.pool"):
        Cart.pool  # noqa: B018


async def test_services_in_one_kit_have_resources_of_their_own(tmp_path: Path) -> None:
    @resource
    async def other() -> AsyncIterator[Pool]:
        yield Pool("other")

    shop = Service("objects", types=[Cart], resources=[pool, prices])
    bank = Service("projects", types=[Vault], resources=[other, backup])
    async with ObjectKit(shop, bank, settings=settings(tmp_path)) as kit:
        assert await kit.call("cart", "a", "pools") == ["shop", "shop"]
        assert await kit.call("vault", "a", "pools") == ["other", "backup"]


async def test_a_view_gets_what_its_function_asks_for(tmp_path: Path) -> None:
    async with ObjectKit(Cart, settings=settings(tmp_path), resources=[pool, prices]) as kit:
        assert await kit.query("cart", "pool") == "shop"


async def test_a_keyword_replaces_a_resource_which_is_not_opened() -> None:
    async with ObjectKit(Cart, resources=[pool, prices], pool=Pool("fake")) as kit:
        assert await kit.call("cart", "a", "pools") == ["fake", "fake"]
    assert EVENTS == ["open prices", "close prices"]


async def test_a_keyword_provides_what_a_class_injects_under_this_name() -> None:
    fake = Pool("fake")
    async with ObjectKit(Cart, pool=fake, prices=Prices(fake)) as kit:
        assert await kit.call("cart", "a", "pools") == ["fake", "fake"]


async def test_a_keyword_that_replaces_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="cache"):
        async with ObjectKit(Plain, cache={}):
            pass


async def test_a_class_that_needs_nothing_is_used_as_it_is() -> None:
    async with ObjectKit(Plain) as kit:
        assert await kit.call("plain", "a", "name") == "Plain"
        assert kit.registry.types["plain"].cls is Plain


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ([pool], ["Cart", "Prices", "prices"]),
        ([prices], ["prices", "Pool", "pool"]),
        ([pool, pool, prices, prices], []),
    ],
)
async def test_a_missing_resource_is_named_with_whoever_needs_it(
    tmp_path: Path, resources: list[Resource[Any]], words: list[str]
) -> None:
    kit = ObjectKit(Cart, settings=settings(tmp_path), resources=resources)
    if not words:
        async with kit:
            return
    with pytest.raises(TypeError) as raised:
        async with kit:
            pass
    assert all(word in str(raised.value) for word in words)


async def test_two_resources_of_one_type_are_refused(tmp_path: Path) -> None:
    @resource
    async def second() -> AsyncIterator[Pool]:
        yield Pool("second")

    with pytest.raises(TypeError, match=r"pool and second.*Pool"):
        async with open_resources([pool, second], {Settings: settings(tmp_path)}):
            pass


async def test_resources_that_need_each_other_are_refused() -> None:
    @resource
    async def pool(prices: Prices) -> AsyncIterator[Pool]:
        yield prices.pool

    with pytest.raises(TypeError, match="pool -> prices -> pool"):
        async with open_resources([pool, prices], {}):
            pass


def test_what_is_no_generator_is_no_resource() -> None:
    async def value() -> Pool:
        return Pool("x")

    with pytest.raises(TypeError, match="async generator"):
        resource(value)  # type: ignore[arg-type]
