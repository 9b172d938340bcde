"""The checks of the simulated store: what no history of an object may contain."""

from __future__ import annotations

import random

import pytest

from aidevos.durable.store.port import Claim, CommitPoint
from aidevos.testing.simulation.loop import new_loop
from aidevos.testing.simulation.network import Latency
from aidevos.testing.simulation.store import Disk

EVENT = {"kind": "event", "subject": "event.tally.a.added", "payload": b"{}", "at": 0.0}
TELL = EVENT | {"kind": "tell", "subject": "do.tally.b.add"}


@pytest.fixture
def disk() -> Disk:
    rng = random.Random(1)
    disk = Disk(new_loop(rng), rng, Latency(rng))
    disk.run(disk.memory.open("tally"))
    disk.run(disk.memory.claim("tally", [Claim("a", "one", 0)]))
    disk.memory.documents["tally"]["a"] |= {"commit": "one.1", "outbox": {"7": EVENT, "8": TELL}, "relay": True}
    return disk


@pytest.mark.parametrize("published", [True, False])
def test_an_event_may_leave_its_outbox_only_once_it_is_published(disk: Disk, published: bool) -> None:
    asked: list[str] = []
    disk.is_published = lambda id: asked.append(id) or published  # type: ignore[func-returns-value]

    assert disk.clear_outboxes("tally", [CommitPoint("a", "one", "one.1")])

    assert asked == ["tally:a:7"]
    assert bool(disk.violations) is not published


def test_an_outbox_that_stays_as_it_is_loses_nothing(disk: Disk) -> None:
    disk.is_published = lambda id: False

    assert not disk.clear_outboxes("tally", [CommitPoint("a", "one", "one.0")])

    assert disk.violations == []
