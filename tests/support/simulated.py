"""The workloads of the proofs in the simulation."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure
from aidevos.contracts import subjects
from aidevos.durable.bus.port import Delivery
from aidevos.testing import Operation, Outcome
from aidevos.testing.simulation.letters import Letters
from aidevos.testing.simulation.world import SimulatedClient
from tests.support.workloads import CLASSES, KINDS, Client, Counters, Events, Tells, Workload, Workloads

# Objects of each kind: few, so that clients meet at them.
COUNT = 3
MOST_KINDS = 3
# Many steps read, because reads are cheap and show what is stale.
READS = 0.6


class PlainCounters(Counters):
    """Counters that are incremented by requests without an ID, which are sent once.

    Such a request has not been applied, and never will be, if the only host that got it has answered `moved`.
    """

    weight = 3

    async def _do(self, client: Client, id: str, method: str, **arguments: Any) -> Outcome:
        return await super()._do(client._replace(call=partial(_call_once, client)), id, method, **arguments)


class StoredTells(Tells):
    """Tells that clients store, and reads. A host that doesn't own an object learns nothing of its tells."""

    weight = 3
    ways = ("tell",)


async def _call_once(client: Client, type: str, id: str, method: str, /, **arguments: Any) -> Any:
    assert client.once is not None
    try:
        return await client.once(type, id, method, arguments)
    except Failure as failure:
        if failure.code == "moved":
            raise Failure("not-owner", failure.detail, status=409) from failure
        raise


def _client(client: SimulatedClient) -> Client:
    return Client(client.name, client.call, client.tell, once=client.once)


ALL: tuple[type[Workload], ...] = (*KINDS, PlainCounters, StoredTells)


class Proofs:
    """A few kinds of workloads at once, by default random ones: a fleet with few types is fast, so more seeds run."""

    def __init__(self, *kinds: type[Workload]) -> None:
        self._kinds = kinds

    def script(self, rng: random.Random, now: Callable[[], float]) -> ProofScript:
        kinds = self._kinds or tuple(rng.sample(ALL, rng.randint(1, MOST_KINDS)))
        return ProofScript(random.Random(rng.getrandbits(32)), now, kinds)


class ProofScript:
    def __init__(self, rng: random.Random, now: Callable[[], float], kinds: tuple[type[Workload], ...]) -> None:
        self._rng = rng
        self._workloads = Workloads(rng, now, COUNT, kinds)
        for each in self._workloads.all:
            each.reads = READS
        types = {kind.type for kind in kinds}
        self.classes: list[type[BaseDurableObject[Any]]] = [cls for cls in CLASSES if cls.object_type in types]
        self.events = [subjects.event("tally", "*", "added")] if Events in kinds else []
        if any(issubclass(kind, Tells) for kind in kinds):
            self.classes.append(Letters)

    @property
    def history(self) -> list[Operation]:
        return self._workloads.history

    def on_commit(self, type: str, id: str, document: dict[str, Any]) -> None:
        """Do nothing: the workloads look at answers only."""

    async def prepare(self, client: SimulatedClient) -> None:
        await self._workloads.prepare(_client(client))

    async def step(self, client: SimulatedClient, choice: int) -> None:
        self._rng.seed(choice)
        await self._workloads.step(_client(client))

    def see(self, event: Delivery) -> None:
        document: dict[str, Any] = msgspec.json.decode(event.payload)
        self._workloads.see(event.subject.split(".")[2], document["data"]["value"])

    async def find_missing(self, client: SimulatedClient) -> list[str]:
        return await self._workloads.find_missing(_client(client))

    async def find_violations(self, client: SimulatedClient) -> list[str]:
        return await self._workloads.find_violations(_client(client))
