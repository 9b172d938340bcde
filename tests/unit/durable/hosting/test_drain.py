"""A host that is stopped finishes what has arrived, and only then lets another host take over.

A host that has lost its lease shows nothing more of its state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from nats.aio.msg import Msg

from aidevos.contracts import subjects
from aidevos.durable.client.connection import Connection, Take
from aidevos.durable.hosting.host import Host
from aidevos.durable.hosting.peers import Peers
from aidevos.durable.hosting.placement_events import PlacementEvents
from aidevos.durable.turns.headers import Reply
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import begun, until

PARTITION = subjects.partition("tally", "a")


class Subscription:
    """A subscription with messages that have arrived and wait for the callback until it is drained."""

    callback: Callable[[Msg], Awaitable[None]]

    def __init__(self) -> None:
        self.waiting: list[Msg] = []

    async def drain(self) -> None:
        for message in self.waiting:
            await self.callback(message)


class Fleet:
    """Stands in for everything that a host has of the fleet. `events` records answers and releases in order."""

    incarnation = "test-0.1"
    max_payload = 1024

    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.events: list[str] = []
        self.ended = False
        self.host: Any = None

    async def subscribe(self, subject: str, **options: Any) -> Subscription:
        self.subscriptions[subject] = Subscription()
        return self.subscriptions[subject]

    async def hand_over(self, subject: str, queue: str, take: Take) -> Subscription:
        async def pass_on(message: Msg) -> None:
            take(message.subject.encode(), message.reply.encode(), message.data, b"")

        subscription = self.subscriptions[subject] = Subscription()
        subscription.callback = pass_on
        return subscription

    async def end(self, subscription: Any, within: float | None = None) -> None:
        await subscription.drain()

    def open_message(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> Msg:
        return Connection().open_message(subject, reply, data, headers)

    def post_payload(self, subject: bytes, payload: bytes) -> None:
        self.events.append(f"{subject.decode()} gets {payload.decode()}")

    def post(self, subject: bytes, message: bytes) -> None:
        self.post_payload(subject, message.partition(b"\r\n\r\n")[2])

    async def release(self) -> None:
        self.events.append("release")

    async def nothing(self, *args: Any, **options: Any) -> None: ...

    flush = stop = leave = close = drop = abandon = nothing

    def take(self, *args: Any) -> None: ...

    async def drain(self, within: float) -> None:
        await self.host._hand_over("tally", PARTITION)
        self.events.append(f"release {PARTITION}")

    def jetstream(self, **options: Any) -> None: ...

    def new_inbox(self) -> str:
        return "_INBOX.host"

    def valid(self) -> bool:
        return not self.ended

    @property
    def lease(self) -> Any:
        return SimpleNamespace(valid=self.valid, end=self.give_up, release=self.release, incarnation="host.1")

    def give_up(self) -> None:
        self.ended = True

    def admit(self, message: Msg, headers: Any) -> Any:
        return ADMIN


def owning_host(kit: ObjectKit, fleet: Any) -> Host:
    """Return a host of the kit's objects whose surroundings are all the fake fleet."""
    host = Host(
        kit.runtime,
        fleet.lease,
        fleet,
        fleet,
        fleet,
        fleet,
        service="test",
        replica=0,
        peers=Peers(),
        events=PlacementEvents(kit.bus, service="test", replica=0, incarnation="host.1", version="1"),
        handover_timeout=10.0,
    )
    host._keep_running(host._events.run())
    for part in ("_membership", "_placement", "_tells"):
        setattr(host, part, fleet)
    fleet.host = host
    host._reception._authenticator = fleet
    return host


def request(reply: str) -> Msg:
    return Msg(_client=None, subject=f"dop.{PARTITION}.tally.a.add", reply=reply, data=b"")  # type: ignore[arg-type]


async def test_a_drain_answers_what_has_arrived_before_it_releases_anything(kit: ObjectKit) -> None:
    fleet, written = Fleet(), asyncio.Event()
    host = owning_host(kit, fleet)
    await host._take("tally", {PARTITION: ""})
    subscription = fleet.subscriptions[subjects.owned("tally", PARTITION)]
    kit.store.faults.append(written)
    await subscription.callback(request("_INBOX.first"))
    subscription.waiting.append(request("_INBOX.second"))

    draining = await begun(host.drain(10.0))
    assert fleet.events == []
    written.set()
    await draining

    assert fleet.events == ["_INBOX.first gets 1", "_INBOX.second gets 2", f"release {PARTITION}", "release"]
    assert kit.store.documents["tally"]["a"]["state"]["value"] == 2


async def test_a_drain_refuses_what_is_not_done_in_time(kit: ObjectKit) -> None:
    fleet, written = Fleet(), asyncio.Event()
    host = owning_host(kit, fleet)
    await host._take("tally", {PARTITION: ""})
    kit.store.faults.append(written)
    await fleet.subscriptions[subjects.owned("tally", PARTITION)].callback(request("_INBOX.first"))
    await until(lambda: not kit.store.faults)

    await host.drain(0.01)

    answer, *released = fleet.events
    assert "unavailable" in answer
    assert released == [f"release {PARTITION}", "release"]
    written.set()


async def test_a_drain_waits_for_a_request_that_no_object_has_got_yet(kit: ObjectKit) -> None:
    fleet, free = Fleet(), asyncio.Event()
    host = owning_host(kit, fleet)
    host._reception._intake._is_congested = lambda: not free.is_set()
    await host._take("tally", {PARTITION: ""})
    fleet.subscriptions[subjects.owned("tally", PARTITION)].waiting.append(request("_INBOX.late"))

    draining = await begun(host.drain(10.0))
    assert fleet.events == []
    free.set()
    await draining

    assert fleet.events == ["_INBOX.late gets 1", f"release {PARTITION}", "release"]


async def test_a_lost_lease_replaces_the_answers_that_have_not_left(kit: ObjectKit) -> None:
    fleet, written = Fleet(), asyncio.Event()
    host = owning_host(kit, fleet)
    await host._take("tally", {PARTITION: ""})
    kit.store.faults.append(written)
    await fleet.subscriptions[subjects.owned("tally", PARTITION)].callback(request("_INBOX.committing"))
    await until(lambda: not kit.store.faults)
    host._replies.send("_INBOX.queued", Reply(b"5"))

    await host.abandon()

    assert sorted(event.split()[0] for event in fleet.events) == ["_INBOX.committing", "_INBOX.queued"]
    assert all('"code":"unavailable"' in event for event in fleet.events)
    written.set()
