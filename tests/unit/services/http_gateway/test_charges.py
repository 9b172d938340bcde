"""What a request costs that reads or creates many items."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import msgspec
import pytest

from aidevos.contracts.data import BulkResult
from aidevos.durable.access.limiter import RateLimited
from services.http_gateway import item_files, line_files
from services.http_gateway.http.responses import RATE_LIMIT
from services.http_gateway.item_files import ItemsRequest
from services.http_gateway.line_files import ImportLimits
from tests.support.charges import ScriptedLimits, admitted_request, charges_of

LIMITS = ImportLimits(1000, 1_000_000, 1_000_000)


async def test_a_list_of_items_costs_one_request_for_each() -> None:
    limits, request = ScriptedLimits(), admitted_request()
    await charges_of(limits).add_items(request, 30)

    assert limits.charged == [29]
    assert request.scope[RATE_LIMIT].headers()[1] == (b"ratelimit", b'"default";r=7;t=1;cost=30')


async def test_a_single_item_and_a_small_page_cost_no_more_than_their_request() -> None:
    limits, request = ScriptedLimits(), admitted_request()
    for count in (0, 1):
        await charges_of(limits).add_items(request, count)
        await charges_of(limits).add_page(request, count)

    assert limits.charged == []
    assert request.scope[RATE_LIMIT].cost == 1


async def test_a_request_is_refused_while_its_limit_is_overdrawn() -> None:
    with pytest.raises(RateLimited):
        await charges_of(ScriptedLimits(0.5)).add_items(admitted_request(), 30)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the lines of which items are made."""
    numbers: list[int] = []

    async def make_items(forwarder: Any, request: Any, collection: str, batch: list[Any]) -> list[BulkResult]:
        numbers.extend(number for number, _ in batch)
        return [BulkResult(status=201, id="x") for _ in batch]

    monkeypatch.setattr(item_files, "make_items", make_items)
    return numbers


async def import_lines(limits: ScriptedLimits, count: int) -> list[Any]:
    """Import this many lines and return the results."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}\n" * count, "more_body": False}

    forwarder: Any = None
    results = io.BytesIO()
    wanted = ItemsRequest(forwarder, charges_of(limits), admitted_request(receive), "c")
    await line_files.load_lines(item_files.import_of(wanted, LIMITS), results)
    return [msgspec.json.decode(line) for line in results.getvalue().splitlines()]


async def test_every_line_of_an_import_costs_a_request(made: list[int]) -> None:
    limits = ScriptedLimits()
    await import_lines(limits, 150)

    assert limits.charged == [64, 64, 22]


async def test_an_import_waits_until_the_limit_allows_more_lines(made: list[int]) -> None:
    limits = ScriptedLimits(0.001, 0.002)
    results = await import_lines(limits, 100)

    assert [result["status"] for result in results] == [201] * 100
    assert limits.waits == []


async def test_lines_that_would_wait_for_long_are_refused_and_the_others_made(made: list[int]) -> None:
    results = await import_lines(ScriptedLimits(line_files.PATIENCE + 0.5), 100)

    assert [result["line"] for result in results] == list(range(1, 101))
    assert [result["status"] for result in results] == [429] * 64 + [201] * 36
    assert (results[0]["problem"]["code"], made) == ("rate-limited", list(range(65, 101)))


async def test_waits_that_add_up_to_more_than_the_patience_end_in_a_refusal() -> None:
    limits = ScriptedLimits(*[0.002] * 100)

    with pytest.raises(RateLimited):
        await charges_of(limits).pace_items(admitted_request(), 5, patience=0.02)

    assert 1 < len(limits.waits) < 99


async def test_a_further_page_waits_for_the_limit() -> None:
    limits, gone = ScriptedLimits(0.001, 0.001), asyncio.Future[None]()
    await charges_of(limits).pace_page(admitted_request(), 500, gone)

    assert (limits.charged, limits.waits) == ([500], [])


async def test_a_further_page_is_not_awaited_by_a_client_that_is_gone() -> None:
    limits, gone = ScriptedLimits(1e6), asyncio.Future[None]()
    pacing = asyncio.ensure_future(charges_of(limits).pace_page(admitted_request(), 500, gone))
    await asyncio.sleep(0)
    assert not pacing.done()
    gone.set_result(None)
    await asyncio.wait_for(pacing, 5)

    assert limits.charged == []
