"""What an object is told takes no message if its process serves the receiver, with the same effect as over NATS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.contracts.errors import Failure
from aidevos.contracts.subjects import partition
from aidevos.durable.delivery import local_caller
from aidevos.durable.delivery.local_caller import LocalCaller
from aidevos.durable.turns.headers import Reply
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from tests.support.kits import failure, quiet

REQUEST = TELL_PREFIX + "once"


class FakeRouter:
    """A router whose calls are answered by `answer`, which may raise or return nothing instead."""

    def __init__(self, answer: Callable[[], Reply | None]) -> None:
        self.answer = answer
        self.headers: list[dict[str, str]] = []

    def dispatch(
        self, subject: str, payload: bytes, headers: dict[str, str], caller: Any, respond: Callable[[Reply], None]
    ) -> None:
        self.headers.append(headers)
        if (answer := self.answer()) is not None:
            respond(answer)


class Sent(ObjectKit):
    """A kit that notes what objects send over NATS."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.requests: list[str] = []
        super().__init__(*args, **options)

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        self.requests.append(subject)
        return await super().request(subject, payload, **options)

    def caller(self, answer: Callable[[], Reply | None]) -> tuple[LocalCaller, FakeRouter]:
        router: Any = FakeRouter(answer)
        return LocalCaller(self.runtime.environment, router, SERVICE), router


@pytest.fixture
async def sent(kit: ObjectKit) -> Any:
    async with Sent(*(type.cls for type in kit.registry.types.values())) as sent:
        yield sent


async def test_a_tell_to_an_object_of_this_process_takes_no_message(sent: Sent) -> None:
    await sent.call("tally", "a", "tell_other", id="b", method="add", times=3)
    await sent.settle()
    assert await sent.call("tally", "b", "value") == 3
    assert sent.requests == []


async def test_a_tell_to_an_object_that_this_process_serves_no_longer_goes_over_nats(sent: Sent) -> None:
    sent.runtime.environment.partitions.leave("tally", [partition("tally", "b")])
    await sent.call("tally", "a", "tell_other", id="b", method="add")
    await sent.settle()
    assert sent.requests == ["do.tally.b.add"]


async def test_tells_do_not_crowd_out_other_callers(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_caller, "AT_ONCE", 2)
    gate = asyncio.Event()
    sent.store.faults.append(gate)
    here = LocalCaller(sent.runtime.environment, sent.router, SERVICE)

    async def add(number: int) -> None:
        await here.request(f"do.tally.o{number}.add", b"{}", request_id=f"{REQUEST}{number}")

    adding = [asyncio.ensure_future(add(number)) for number in range(3)]
    await quiet()
    assert sent.requests == ["do.tally.o2.add"]
    gate.set()
    await asyncio.gather(*adding)
    await add(3)
    assert len(sent.requests) == 1


async def test_one_request_that_comes_here_and_over_nats_is_applied_once(sent: Sent) -> None:
    here = LocalCaller(sent.runtime.environment, sent.router, SERVICE)
    for caller in (here, sent, here):
        assert await caller.request("do.tally.b.add", b"{}", request_id=REQUEST) == b"1"
    assert sent.requests == ["do.tally.b.add"]


@pytest.mark.parametrize("code", ["moved", "unavailable"])
@pytest.mark.parametrize("raises", [False, True], ids=["answered", "raised"])
async def test_a_request_that_finds_no_owner_here_goes_over_nats(sent: Sent, code: str, raises: bool) -> None:
    refusal = Failure(code, "not here")

    def refuse() -> Reply:
        if raises:
            raise refusal
        return Reply.of(refusal)

    caller, router = sent.caller(refuse)
    assert await caller.request("do.tally.b.add", b"{}", request_id=REQUEST, deadline=2.0) == b"1"
    assert sent.requests == ["do.tally.b.add"]
    assert router.headers == [{"Request-Id": REQUEST, "Deadline": "2000"}]


async def test_a_request_that_nobody_answers_here_goes_over_nats_after_its_deadline(sent: Sent) -> None:
    caller, _ = sent.caller(lambda: None)
    assert await caller.request("do.tally.b.add", b"{}", request_id=REQUEST, deadline=0.01) == b"1"
    assert sent.requests == ["do.tally.b.add"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("conflict", "no"), "conflict"),
        (Failure("overloaded", "later"), "overloaded"),
        (ValueError(), "internal"),
    ],
)
async def test_any_other_failure_is_final(
    sent: Sent, error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Reply:
        raise error

    caplog.set_level(logging.CRITICAL)
    caller, _ = sent.caller(refuse)
    refused = await failure(caller.request("do.tally.b.add", b"{}", request_id=REQUEST))
    assert refused.code == code
    assert sent.requests == []


async def test_a_cancelled_request_leaves_its_object_alone(sent: Sent) -> None:
    gate = asyncio.Event()
    sent.store.faults.append(gate)
    here = LocalCaller(sent.runtime.environment, sent.router, SERVICE)
    waiting = asyncio.ensure_future(here.request("do.tally.b.add", b"{}", request_id=REQUEST))
    await asyncio.sleep(0)
    waiting.cancel()
    gate.set()
    await sent.settle()
    assert await here.request("do.tally.b.add", b"{}", request_id=REQUEST) == b"1"
