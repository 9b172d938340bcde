"""The plan of a run: what the clients do and which faults strike, all chosen by a seed.

A plan is explicit, so it can be shortened while it still shows the same failure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from aidevos.testing.simulation.faults import KINDS, Fault, choose_faults

HOSTS = 3
OPERATIONS = 1000
CLIENTS = (4, 8, 16)
# Operations for each client at least.
SHARE = 10
# Virtual seconds that the steps of a run take without faults.
LASTS = (1.0, 4.0, 10.0)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a client, after a pause of at most so many seconds. `choice` is the seed of its own choices."""

    client: int
    pause: float
    choice: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The steps and faults of one run. `seed` decides everything else, such as the order of callbacks.

    `stalls` is the probability that a host is held up after a callback.
    """

    seed: int
    clients: int
    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]
    stalls: float = 0.0

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.clients} clients, stalls {self.stalls}"]
        lines += [f"  {each.at:7.3f} s: {_describe(each)}" for each in self.faults]
        for client in range(self.clients):
            mine = [each for each in self.steps if each.client == client]
            if mine:
                pauses = " ".join(f"{each.pause:.3f}s:{each.choice}" for each in mine)
                lines.append(f"  client {client}: {pauses}")
        return "\n".join(lines)


def make_plan(seed: int, operations: int = OPERATIONS, faults: bool = True, only: Sequence[str] = ()) -> Plan:
    """Return the plan of a seed. Each seed has its own mixture of faults: some have few kinds, some many of them.

    With `only`, faults are of these kinds.
    """
    rng = random.Random(seed)  # noqa: S311
    clients = min(rng.choice(CLIENTS), max(2, operations // SHARE))
    lasts = rng.choice(LASTS)
    pause = lasts * clients / operations
    steps = tuple(
        Step(client=number % clients, pause=round(rng.expovariate(1 / pause), 4), choice=rng.getrandbits(32))
        for number in range(operations)
    )
    if not faults:
        return Plan(seed=seed, clients=clients, steps=steps, faults=())
    kinds = list(only) or rng.sample(list(KINDS), rng.randint(1, len(KINDS)))
    struck = choose_faults(rng, kinds, rng.choice((2, 5, 10)), lasts, HOSTS, clients)
    return Plan(seed=seed, clients=clients, steps=steps, faults=tuple(struck), stalls=rng.choice((0.0, 0.0005, 0.005)))


def _describe(fault: Fault) -> str:
    parts = [fault.kind, f"node {fault.node}"]
    parts += [
        f"{name} {value}" for name in ("moment", "seconds", "callbacks", "share") if (value := getattr(fault, name))
    ]
    return ", ".join(parts)
