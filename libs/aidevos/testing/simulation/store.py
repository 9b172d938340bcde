"""The simulated store: the in-memory store behind a network and a disk that delay, fail and lose answers.

A call that the store has applied may look like one that it hasn't, and one that its caller has given up may be applied
long after. Of a batch, some commits may be applied and others not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Commit, Outcome, StoreError
from aidevos.testing.simulation.loop import Process, VirtualLoop
from aidevos.testing.simulation.network import Latency

# Seconds after which a caller gives up.
TIMEOUT = 2.0
LATEST = 8.0


class Disk:
    """The store that all hosts share. `errors` is the share of calls that fail in some way."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, latency: Latency) -> None:
        self.memory = MemoryStore()
        self.errors = 0.0
        # Called with the type, the ID and the document after each commit that was applied.
        self.on_commit: Callable[[str, str, dict[str, Any]], None] | None = None
        self.loop = loop
        self.rng = rng
        self.latency = latency

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Run a call of the in-memory store, which never waits."""
        try:
            call.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the in-memory store must not wait")


class SimulatedStore:
    """The store as one process sees it. `reachable` returns False while the network keeps them apart."""

    def __init__(self, disk: Disk, process: Process, reachable: Callable[[], bool]) -> None:
        self._disk = disk
        self._process = process
        self._reachable = reachable

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._disk.memory, name)

        async def call(*args: Any, **options: Any) -> Any:
            return await self._send(lambda: self._disk.run(method(*args, **options)))

        return call

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        try:
            sent = [commit._replace(set=dict(commit.set)) for commit in commits]
            outcomes: list[Outcome] = await self._send(lambda: self._apply(type, sent), writes=True)
            return outcomes
        except StoreError:
            return [Outcome.UNKNOWN for _ in commits]

    def _apply(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        disk = self._disk
        outcomes: list[Outcome] = disk.run(disk.memory.commit(type, commits))
        for commit, outcome in zip(commits, outcomes, strict=True):
            if disk.on_commit is not None and outcome is Outcome.APPLIED:
                disk.on_commit(type, commit.id, disk.memory.documents[type][commit.id])
        return outcomes

    async def _send(self, apply: Callable[[], Any], *, writes: bool = False) -> Any:
        """Apply a call at the store, and return its result. Raises `StoreError`."""
        disk, loop = self._disk, self._disk.loop
        answered: asyncio.Future[Any] = loop.create_future()
        late = loop.call_later(TIMEOUT, _fail, answered, "no answer", context=self._process.context)
        fault = disk.rng.random() if disk.errors else 1.0
        delay = disk.latency.draw()
        answers = True
        if fault < disk.errors:
            kind = disk.rng.choice(("refused", "lost", "silent", "late"))
            if kind == "refused":
                self._process.call(_fail, answered, "the connection was refused", delay=delay)
                return await answered
            if kind == "late":
                delay += disk.rng.random() * LATEST
            answers = kind == "silent" and disk.rng.random() < 0.3
            if kind != "late" and disk.rng.random() < 0.5:
                self._process.call(_fail, answered, "the connection was reset", delay=delay + disk.latency.draw())
            if kind == "lost":
                return await answered
        if self._reachable():
            loop.world.call(self._arrive, apply, answered, answers, delay=delay)
        try:
            return await answered
        finally:
            late.cancel()

    def _arrive(self, apply: Callable[[], Any], answered: asyncio.Future[Any], answers: bool) -> None:
        try:
            result = apply()
        except StoreError as error:
            self._answer(answers, _fail, answered, str(error))
        else:
            self._answer(answers, _resolve, answered, result)

    def _answer(self, answers: bool, settle: Callable[..., object], *args: object) -> None:
        if answers and self._reachable():
            self._process.call(settle, *args, delay=self._disk.latency.draw())


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], reason: str) -> None:
    if not future.done():
        future.set_exception(StoreError(reason))
