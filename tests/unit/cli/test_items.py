"""The import of items in batches, on a gateway that fails as the tests say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aidevos.backup.outcome import Outcome
from aidevos.cli import batches, items
from aidevos.cli.items import ItemImport
from aidevos.client.api import HttpApi
from aidevos.client.errors import Forbidden
from tests.support.fake_gateway import FakeGateway, Request, problem

PATH = "/data/collections/books"
BUSY = {"status": 503, "problem": {"code": "unavailable", "detail": "no process answered"}}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSES", (0.0, 0.0))


async def load(gateway: FakeGateway, *lines: str, stop: bool = False) -> Outcome:
    async with HttpApi(gateway.url) as api:
        loading = ItemImport(api, "books", "fail", stop=stop)
        await loading.run(f"{line}\n".encode() for line in lines)
        return loading.outcome


def created(request: Request) -> tuple[int, Any]:
    return 207, {"results": [{"status": 201, "id": item["id"]} for item in request.body]}


def item(id: str) -> str:
    return json.dumps({"id": id, "data": {"x": 1}})


async def test_a_batch_in_which_the_fleet_had_no_room_is_sent_again_under_its_key(gateway: FakeGateway) -> None:
    answers = iter([[{"status": 201, "id": "a"}, BUSY], [{"status": 201, "id": "a"}, {"status": 201, "id": "b"}]])
    gateway.answers[f"POST {PATH}"] = lambda request: (207, {"results": next(answers)})

    outcome = await load(gateway, item("a"), item("b"))

    assert outcome == Outcome(created=2)
    first, second = gateway.requests
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_a_fleet_that_stays_without_room_fails_the_line(gateway: FakeGateway) -> None:
    gateway.answers[f"POST {PATH}"] = (207, {"results": [BUSY]})

    outcome = await load(gateway, item("a"))

    assert outcome == Outcome(failed=1, failures=["line 1: unavailable: no process answered"])
    assert len(gateway.requests) == 3


async def test_each_batch_has_a_key_of_its_own_and_a_bound(gateway: FakeGateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(items, "BATCH", 2)
    gateway.answers[f"POST {PATH}"] = created

    outcome = await load(gateway, *map(item, "abcde"))

    assert outcome == Outcome(created=5)
    assert [len(request.body) for request in gateway.requests] == [2, 2, 1]
    assert len({request.headers["idempotency-key"] for request in gateway.requests}) == 3


async def test_large_lines_make_small_batches(gateway: FakeGateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(batches, "BATCH_SIZE", 60)
    gateway.answers[f"POST {PATH}"] = created

    await load(gateway, *map(item, "abcd"))

    assert [len(request.body) for request in gateway.requests] == [2, 2]


async def test_a_batch_that_is_refused_as_a_whole_names_each_line(gateway: FakeGateway) -> None:
    gateway.answers[f"POST {PATH}"] = problem(413, "too-large", "the body is too large")

    outcome = await load(gateway, item("a"), "", item("b"))

    assert outcome.failures == ["line 1: too-large: the body is too large", "line 3: too-large: the body is too large"]


async def test_the_first_failure_ends_an_import_that_is_told_to_stop(gateway: FakeGateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(items, "BATCH", 1)
    gateway.answers[f"POST {PATH}"] = created

    outcome = await load(gateway, item("a"), "no JSON", item("b"), stop=True)

    assert (outcome.created, outcome.failed) == (1, 1)


async def test_a_caller_who_is_refused_hears_so_at_once(gateway: FakeGateway) -> None:
    gateway.answers[f"POST {PATH}"] = problem(403, "forbidden", "you may not")

    with pytest.raises(Forbidden):
        await load(gateway, item("a"), item("b"))
