"""Tells whose delivery is lost between the servers of a cluster, while the host's connection lives on."""

from __future__ import annotations

from typing import Any

import pytest

from aidevos.testing.simulation.nats_server import NatsServer
from aidevos.testing.simulation.plan import make_plan
from aidevos.testing.simulation.world import run
from tests.support.simulated import Proofs
from tests.support.workloads import Tells


@pytest.mark.parametrize("lost", ["first", "last"])
def test_a_lost_tell_is_delivered_again_in_its_order(monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    plan, proofs = make_plan(1, operations=150, faults=False), Proofs(Tells)
    count = _count_deliveries(monkeypatch, plan, proofs)
    assert count > 3
    losses = _lose(monkeypatch, 1 if lost == "first" else count)
    assert run(plan, proofs).violations == []
    assert losses == [1]


def _count_deliveries(monkeypatch: pytest.MonkeyPatch, plan: Any, proofs: Proofs) -> int:
    with monkeypatch.context() as patched:
        seen = _lose(patched, 0)
        run(plan, proofs)
        return len(seen)


def _lose(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Lose the delivery of a tell with this number, and return what was lost; with 0, lose none and return all."""
    deliver, noted, count = NatsServer.deliver, [], 0

    def deliver_some(self: NatsServer, to: str, subject: str, *message: Any) -> None:
        nonlocal count
        if subject.startswith("tellp."):
            count += 1
            if number in (0, count):
                noted.append(1)
            if count == number:
                return
        deliver(self, to, subject, *message)

    monkeypatch.setattr(NatsServer, "deliver", deliver_some)
    return noted
