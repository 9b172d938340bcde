"""Alarms against a simple simulation, for any sequence of settings, cancellations, failures and outages."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.durable.turns.environment import Limits
from aidevos.testing import ObjectKit
from tests.support.alarms import Bell
from tests.support.kits import START, crash, examples

NAMES = ("a", "b", "c")
BACKOFF, LONGEST = 3, 10
GRACE = 60
pytestmark = pytest.mark.usefixtures("unjittered")


class Set(NamedTuple):
    """Set an alarm; times are in seconds, and the first `fails` attempts of each occurrence raise."""

    name: str
    after: int
    every: int | None
    catch_up: str
    fails: int
    attempts: int


class Cancel(NamedTuple):
    name: str


class Pass(NamedTuple):
    """Let time pass, either during an outage or as usual."""

    seconds: int
    outage: bool


Step: TypeAlias = Set | Cancel | Pass
steps = st.lists(
    st.one_of(
        st.builds(
            Set,
            st.sampled_from(NAMES),
            st.integers(0, 300),
            st.none() | st.integers(20, 200),
            st.sampled_from(["all", "latest", "skip"]),
            st.integers(0, 3),
            st.integers(1, 4),
        ),
        st.builds(Cancel, st.sampled_from(NAMES)),
        st.builds(Pass, st.integers(0, 400), st.booleans()),
    ),
    max_size=12,
)


class Planned:
    """A simulated alarm: its regular time, its next attempt, and its number of failures."""

    def __init__(self, wish: Set, now: int) -> None:
        self.wish = wish
        self.regular = self.next = now + wish.after
        self.failed = self.missed = 0

    def ring(self, now: int) -> Literal["rang", "failed", "dead", "skipped"]:
        wish, times = self.wish, [self.regular]
        while wish.every and times[-1] + wish.every <= now:
            times.append(times[-1] + wish.every)
        if not self.failed and wish.catch_up != "all":
            self.regular, self.missed = times[-1], len(times) - 1
            late = now - self.regular
            if wish.catch_up == "skip" and late > min(GRACE, wish.every / 2 if wish.every else GRACE):
                return "skipped"
        if self.failed >= wish.fails:
            return "rang"
        self.failed += 1
        if self.failed == wish.attempts:
            return "dead"
        self.next = now + min(BACKOFF * 2 ** (self.failed - 1), LONGEST)
        return "failed"


class Simulation:
    """The expected behaviour of one object, second by second."""

    def __init__(self) -> None:
        self.now = 0
        self.alarms: dict[str, Planned] = {}
        self.rang: list[tuple[str, int, int, int, int]] = []
        self.tried: Counter[str] = Counter()
        self.letters = 0

    def take(self, step: Step) -> None:
        if isinstance(step, Set):
            self.alarms[step.name] = Planned(step, self.now)
        elif isinstance(step, Cancel):
            self.alarms.pop(step.name, None)
        elif step.outage:
            self.now += step.seconds
            self._ring_due()
        else:
            self._ring_due()
            for _ in range(step.seconds):
                self.now += 1
                self._ring_due()

    def _ring_due(self) -> None:
        while due := sorted((alarm.next, name) for name, alarm in self.alarms.items() if alarm.next <= self.now):
            self._ring(due[0][1])

    def _ring(self, name: str) -> None:
        alarm = self.alarms[name]
        outcome = alarm.ring(self.now)
        if outcome != "skipped":
            self.tried[name] += 1
        if outcome == "rang":
            self.rang.append((name, alarm.regular, alarm.missed, alarm.failed + 1, self.now))
        if outcome == "dead":
            self.letters += 1
        if outcome == "failed":
            return
        if alarm.wish.every is None:
            del self.alarms[name]
            return
        alarm.regular += alarm.wish.every
        alarm.next, alarm.failed, alarm.missed = alarm.regular, 0, 0


class Product:
    """The same behaviour in the kit, where each outage is a crash followed by a new process."""

    def __init__(self) -> None:
        Bell.attempts = []
        self.kit = self._process()
        self.letters: dict[str, Any] = {}

    def _process(self, **others: Any) -> ObjectKit:
        return ObjectKit(Bell, limits=Limits(alarm_rate=100_000.0), **others)

    async def take(self, step: Step) -> None:
        if isinstance(step, Set):
            args = {
                "in_": step.after,
                "every": step.every,
                "catch_up": step.catch_up,
                "grace": GRACE,
                "payload": {"fails": step.fails},
            }
            retry = {"max_attempts": step.attempts, "backoff": BACKOFF, "max_backoff": LONGEST}
            await self.kit.call("bell", "a", "set", name=step.name, args=args, retry=retry)
        elif isinstance(step, Cancel):
            await self.kit.call("bell", "a", "cancel", name=step.name)
        elif step.outage:
            old = self.kit
            await crash(old)
            old.clock.advance(step.seconds)
            self.kit = self._process(store=old.store, bus=old.bus, clock=old.clock)
            self.kit.letters = old.letters
            await self.kit.advance(0)
        else:
            await self.kit.advance(step.seconds)

    async def rang(self) -> list[tuple[str, int, int, int, int]]:
        told = await self.kit.call("bell", "a", "rung")
        return [
            (alarm["name"], alarm["due"] - START, alarm["missed"], alarm["attempt"], at - START) for alarm, at in told
        ]


@examples(300)
@given(steps)
def test_alarms_ring_as_a_plain_simulation_says(taken: list[Step]) -> None:
    simulation = Simulation()

    async def run() -> None:
        product = Product()
        await product.kit.__aenter__()
        for step in taken:
            simulation.take(step)
            await product.take(step)
        assert await product.rang() == simulation.rang
        assert Counter(name for name, _, _ in Bell.attempts) == simulation.tried
        assert len(product.kit.letters) == simulation.letters
        stored = product.kit.store.documents["bell"].get("a", {}).get("alarms", {})
        assert {name: alarm["at"] - START for name, alarm in stored.items()} == {
            name: alarm.next for name, alarm in simulation.alarms.items()
        }
        await product.kit.runtime.close()

    asyncio.run(run())
