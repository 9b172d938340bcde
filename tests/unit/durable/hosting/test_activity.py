"""The objects in memory of several hosts, as a list shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from aidevos.contracts import subjects
from aidevos.durable.hosting import activity
from aidevos.durable.hosting.activity import Activity
from aidevos.durable.store.memory import MemoryStore
from aidevos.testing import ObjectKit
from tests.support.objects import Tally

HOSTS = ("tallies-0.1", "tallies-1.1", "tallies-2.1")


class Network:
    """Carries the questions of hosts. Those to a `silent` host have no answer."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Any] = {}
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self._answers: dict[str, bytes] = {}

    async def subscribe(self, subject: str, cb: Any) -> Any:
        self.callbacks[subject] = cb

        async def unsubscribe() -> None:
            del self.callbacks[subject]

        return SimpleNamespace(unsubscribe=unsubscribe)

    async def publish(self, subject: str, payload: bytes) -> None:
        self._answers[subject] = payload

    async def request(self, subject: str, payload: bytes, **options: float) -> Any:
        self.asked.append(subject)
        if subject in self.silent:
            await asyncio.sleep(options["timeout"])
            raise NatsTimeoutError
        if subject not in self.callbacks:
            raise NoRespondersError
        reply = f"_INBOX.{len(self.asked)}"
        await self.ask(subject, payload, reply)
        return SimpleNamespace(data=self._answers.pop(reply))

    async def ask(self, subject: str, payload: bytes, reply: str) -> None:
        await self.callbacks[subject](SimpleNamespace(subject=subject, data=payload, reply=reply))

    @property
    def answered(self) -> list[str]:
        return list(self._answers)


class Service:
    """Three hosts with objects `o0` to `o5`, of which each owns two."""

    def __init__(self) -> None:
        self.network = Network()
        self.owners = {f"o{number}": HOSTS[number % 3] for number in range(6)}
        store = MemoryStore()
        self.kits = {incarnation: ObjectKit(Tally, store=store) for incarnation in HOSTS}
        network: Any = self.network
        self.activities = {
            incarnation: Activity(
                network,
                kit.catalogue,
                service="tallies",
                incarnation=incarnation,
                owner_of=lambda type, id: self.owners[id],
            )
            for incarnation, kit in self.kits.items()
        }

    async def start(self) -> None:
        for incarnation, each in self.activities.items():
            await each.start()
            self.kits[incarnation].runtime.find_active = each.find_active
        for id, incarnation in self.owners.items():
            await self.kits[incarnation].call("tally", id, "add")

    async def list_at(self, host: int) -> dict[str, str]:
        """Return the status of each object, by ID, as this host lists it."""
        page = await self.kits[HOSTS[host]].query("tally", "list")
        return {item["id"]: item["status"] for item in page["items"]}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    first, second, third = made.kits.values()
    async with first, second, third:
        await made.start()
        yield made


@pytest.mark.parametrize("host", range(3))
async def test_every_host_lists_the_same_objects_as_active(service: Service, host: int) -> None:
    service.kits[HOSTS[1]].catalogue.drop_all()

    assert await service.list_at(host) == {
        "o0": "active",
        "o1": "hibernated",
        "o2": "active",
        "o3": "active",
        "o4": "hibernated",
        "o5": "active",
    }
    assert len(service.network.asked) == 2


async def test_the_objects_of_a_host_that_does_not_answer_count_as_hibernated(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "WITHIN", 0.01)
    service.network.silent = {subjects.active("tallies", HOSTS[1])}
    await service.activities[HOSTS[2]].stop()
    shown = await service.list_at(0)

    assert {id for id, status in shown.items() if status == "active"} == {"o0", "o3"}


async def test_an_object_that_nobody_owns_is_hibernated_and_nobody_is_asked(service: Service) -> None:
    service.owners = dict.fromkeys(service.owners, "")
    shown = await service.list_at(0)

    assert set(shown.values()) == {"hibernated"}
    assert service.network.asked == []


async def test_an_answer_that_can_not_be_read_counts_as_none(service: Service) -> None:
    async def answer(message: Any) -> None:
        await service.network.publish(message.reply, b"{}")

    for incarnation in HOSTS[1:]:
        service.network.callbacks[subjects.active("tallies", incarnation)] = answer

    assert await service.activities[HOSTS[0]].find_active("tally", ["o0", "o1", "o2"]) == {"o0"}


@pytest.mark.parametrize(
    ("payload", "reply"), [(b"no JSON", "_INBOX.x"), (b'{"type":"tally","ids":[]}', "event.a.b.c")]
)
async def test_a_question_that_can_not_be_read_or_answered_ends_nothing(
    service: Service, payload: bytes, reply: str
) -> None:
    await service.network.ask(subjects.active("tallies", HOSTS[0]), payload, reply)

    assert service.network.answered == []
    assert await service.activities[HOSTS[1]].find_active("tally", ["o0"]) == {"o0"}
