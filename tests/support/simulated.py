"""The workloads of the proofs in the simulation."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from aidevos.durable.bus.port import Delivery
from aidevos.testing import Operation
from aidevos.testing.simulation.world import SimulatedClient
from tests.support.workloads import CLASSES, Client, Workloads

# Objects of each kind: few, so that clients meet at them.
COUNT = 3


class Proofs:
    """All workloads at once."""

    classes = CLASSES

    def script(self, rng: random.Random, now: Callable[[], float]) -> ProofScript:
        return ProofScript(rng, now)


class ProofScript:
    def __init__(self, rng: random.Random, now: Callable[[], float]) -> None:
        self._rng = random.Random(rng.getrandbits(32))
        self._workloads = Workloads(self._rng, now, COUNT)

    @property
    def history(self) -> list[Operation]:
        return self._workloads.history

    async def prepare(self, client: SimulatedClient) -> None:
        await self._workloads.prepare(Client(*client))

    async def step(self, client: SimulatedClient, choice: int) -> None:
        self._rng.seed(choice)
        await self._workloads.step(Client(*client))

    def see(self, event: Delivery) -> None:
        _, type, id, name = event.subject.split(".")
        if (type, name) == ("tally", "added"):
            document: dict[str, Any] = msgspec.json.decode(event.payload)
            self._workloads.see(id, document["data"]["value"])

    async def find_missing(self, client: SimulatedClient) -> list[str]:
        return await self._workloads.find_missing(Client(*client))

    async def find_violations(self, client: SimulatedClient) -> list[str]:
        return await self._workloads.find_violations(Client(*client))
