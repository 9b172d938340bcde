"""The simulation of a user's own objects: a fleet with faults, in which clients run a workload.

Promise: a seed gives the same run each time, on every machine. A failure comes with the shortest plan that was found,
and with the history of the calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from aidevos.durable.bus.port import Delivery
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.testing.history import Operation, Recorder
from aidevos.testing.linearizability import Model, check_linearizable
from aidevos.testing.simulation.campaign import Report, describe, simulate_seeds
from aidevos.testing.simulation.world import SimulatedClient

# Examples of each strategy that a workload draws from.
EXAMPLES = 100
OPERATIONS = 50


@dataclass(frozen=True)
class Workload:
    """The calls of clients to objects, and what must hold of them.

    `calls` has the methods, such as `{"add": {"item": st.sampled_from(["tea", "milk"])}}`, with a Hypothesis strategy
    or a constant for each argument. With several classes, a method is named `cart.add`. They are called on the objects
    with these `ids`.

    `invariant` gets every state that is committed, and returns False or raises `AssertionError` for one that must not
    be. With several classes, it gets the states of the first one. `model` is a sequential model of the first class:
    the answers must be those of the model, in an order that its clients can't tell from the real one.
    """

    calls: Mapping[str, Mapping[str, Any]]
    ids: Sequence[str] = ("one", "two")
    invariant: Callable[[Any], bool | None] | None = None
    model: Model[Any] | None = None


def simulate(
    objects: type[BaseDurableObject[Any]] | Sequence[type[BaseDurableObject[Any]]],
    workload: Workload,
    *,
    seeds: int | Iterable[int] = 100,
    operations: int = OPERATIONS,
) -> Report:
    """Run a workload on simulated fleets, one for each seed, and return what was run.

    `seeds` is their number, or the seeds themselves. Each run makes so many `operations` while hosts are paused,
    killed, cut off and replaced. Raises `AssertionError` for the first seed in which the invariant or the model is
    violated, an error is raised that the classes don't declare, or something is never delivered. The error has the
    shortest plan that was found, and the history. Strategies need the package `hypothesis`.
    """
    classes = [objects] if isinstance(objects, type) else list(objects)
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    report = simulate_seeds(_Scenario(classes, workload), chosen, operations=operations)
    if report.failed:
        failed = report.failed[0]
        raise AssertionError(f"seed {failed.plan.seed} fails: {describe(failed)}")
    return report


@dataclass
class _Scenario:
    classes: Sequence[type[BaseDurableObject[Any]]]
    workload: Workload

    def script(self, rng: random.Random, now: Callable[[], float]) -> _Script:
        return _Script(self.classes, self.workload, Recorder(now))


@dataclass
class _Script:
    """One run of a workload."""

    classes: Sequence[type[BaseDurableObject[Any]]]
    workload: Workload
    recorder: Recorder
    events: Sequence[str] = ()
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._type = DurableObjectRegistry(self.classes).types[self.classes[0].object_type]

    @property
    def history(self) -> list[Operation]:
        return self.recorder.operations

    def on_commit(self, type: str, id: str, document: dict[str, Any]) -> None:
        """Check the invariant of a state that was just committed."""
        invariant, state = self.workload.invariant, document.get("state")
        if invariant is None or state is None or type != self._type.name:
            return
        loaded = self._type.load_state(state, document.get("schema", 1))
        try:
            holds = invariant(loaded) is not False
            reason = ""
        except AssertionError as error:
            holds, reason = False, f": {error}"
        if not holds:
            self.violations.append(f"the invariant doesn't hold for {type}:{id} with {loaded}{reason}")

    async def prepare(self, client: SimulatedClient) -> None:
        """Do nothing: the calls make the objects."""

    async def step(self, client: SimulatedClient, choice: int) -> None:
        rng = random.Random(choice)  # noqa: S311
        name = rng.choice(list(self.workload.calls))
        arguments = {each: _draw(value, rng) for each, value in self.workload.calls[name].items()}
        type, _, method = name.rpartition(".")
        await self._call(client, type or self._type.name, rng.choice(self.workload.ids), method, arguments)

    async def _call(self, client: SimulatedClient, type: str, id: str, method: str, arguments: dict[str, Any]) -> None:
        answer = client.call(type, id, method, **arguments)
        outcome = await self.recorder.record(client.name, f"{type}:{id}", method, arguments, answer)
        if getattr(outcome, "code", "") == "internal":
            self.violations.append(f"{type}:{id}.{method} raised an unexpected error")

    def see(self, event: Delivery) -> None:
        """Do nothing: it asks for no events."""

    async def find_missing(self, client: SimulatedClient) -> list[str]:
        return []

    async def find_violations(self, client: SimulatedClient) -> list[str]:
        if self.workload.model is None:
            return self.violations
        mine = [each for each in self.history if each.object.startswith(f"{self._type.name}:")]
        return self.violations + [str(each) for each in check_linearizable(mine, self.workload.model)]


def _draw(value: Any, rng: random.Random) -> Any:
    """Return an example of a strategy, or the constant itself."""
    return rng.choice(_examples(value)) if hasattr(value, "example") else value


@lru_cache(maxsize=1000)
def _examples(strategy: Any) -> list[Any]:
    """Return examples of a Hypothesis strategy, always the same ones."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    found: list[Any] = []

    @seed(0)
    @settings(max_examples=EXAMPLES, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found
