"""A result is of the type that its method declares, or the caller learns of a bug and the test of its author fails."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, authenticated, command, query
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import chosen, failure


class Line(msgspec.Struct):
    sku: str
    count: int = 1


class OrderState(msgspec.Struct):
    lines: list[Line] = []
    text: Any = None


WRONG: dict[str, Any] = {"text": "7", "nothing": None, "half": 0.5}


class Order(BaseDurableObject[OrderState], type="order"):
    """An order whose methods return something else than they declare, on demand."""

    @command(allow=authenticated())
    async def add(self, sku: str = "tea", returned: str = "") -> int:
        self.state.lines.append(Line(sku))
        return WRONG[returned] if returned else len(self.state.lines)  # type: ignore[no-any-return]

    @query(allow=authenticated())
    async def lines(self, count: Any = 1) -> list[Line]:
        return [Line("tea", count)]

    @query(allow=authenticated())
    async def as_map(self) -> Line:
        return {"sku": "tea"}  # type: ignore[return-value]

    @query(allow=authenticated())
    async def silent(self) -> None:
        return 5  # type: ignore[return-value]

    @query(allow=authenticated())
    async def anything(self) -> Any:
        return ["tea", 1]

    @command(allow=authenticated())
    async def call_lines(self) -> Any:
        return await self.call("order", "b", "lines", count="many")


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("add", {"returned": "text"}, "Order.add declares to return int, and returned something else: Expected `int`"),
    ("add", {"returned": "nothing"}, "Order.add declares to return int"),
    ("add", {"returned": "half"}, "Expected `int`, got `float`"),
    ("lines", {"count": "many"}, "Expected `int`, got `str` - at `$[0].count`"),
    ("silent", {}, "Order.silent declares to return NoneType"),
]


@pytest.mark.parametrize(("method", "args", "sentence"), MISTAKES)
@pytest.mark.parametrize("content_type", ["application/json", "application/msgpack"])
async def test_a_result_of_another_type_is_an_internal_error_that_is_logged_and_undone(
    method: str, args: dict[str, Any], sentence: str, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    payload = {"application/json": msgspec.json.encode, "application/msgpack": msgspec.msgpack.encode}[content_type]
    async with ObjectKit(Order, strict=False) as kit:
        sent = kit._dispatch(f"do.order.a.{method}", payload(args), ADMIN, {"Content-Type": content_type})
        refused = await failure(sent)
        assert (refused.status, refused.code) == (500, "internal")
        assert f"order:a.{method} raised (error {refused.error_id})" in caplog.text
        assert sentence in caplog.text
        assert await kit.call("order", "a", "add") == 1


async def test_a_repeat_of_a_command_with_such_a_result_gets_the_same_error() -> None:
    async with ObjectKit(Order, strict=False) as kit:
        ids = [
            (await failure(kit.call("order", "a", "add", returned="text", headers=chosen("once")))).error_id
            for _ in range(2)
        ]
        assert ids[0] == ids[1]


async def test_a_result_that_encodes_as_declared_is_fine() -> None:
    async with ObjectKit(Order) as kit:
        assert await kit.call("order", "a", "as_map") == {"sku": "tea"}
        assert await kit.call("order", "a", "lines") == [{"sku": "tea", "count": 1}]
        assert await kit.call("order", "a", "anything") == ["tea", 1]


@pytest.mark.parametrize(("method", "args", "sentence"), MISTAKES)
async def test_a_test_with_the_kit_fails(method: str, args: dict[str, Any], sentence: str) -> None:
    async with ObjectKit(Order) as kit:
        with pytest.raises(AssertionError) as raised:
            await kit.call("order", "a", method, **args)
        assert sentence in str(raised.value)
        assert await kit.call("order", "a", "add") == 1


async def test_a_test_with_the_kit_fails_for_a_mistake_in_a_nested_call_or_in_a_tell() -> None:
    async with ObjectKit(Order) as kit:
        with pytest.raises(AssertionError, match=r"Order\.lines"):
            await kit.call("order", "a", "call_lines")
    with pytest.raises(AssertionError, match=r"Order\.silent"):
        async with ObjectKit(Order) as kit:
            await failure(kit.request("do.order.a.silent", b"", deadline=1.0))
