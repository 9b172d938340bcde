"""The simulated store: the in-memory store behind a network and a disk that delay, fail and lose answers.

A call that the store has applied may look like one that it hasn't. One that its caller has given up may be applied long
after, and one that was answered may be applied again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Commit, CommitPoint, Outcome, StoreError
from aidevos.testing.simulation.loop import Process, VirtualLoop
from aidevos.testing.simulation.network import Latency

# Seconds after which a caller gives up.
TIMEOUT = 2.0
LATEST = 8.0
Documents = dict[str, dict[str, Any]]


class Disk:
    """The store that all hosts share. `errors` is the share of calls that fail in some way.

    `violations` are changes that no history of an object may contain, whatever its clients see of them.
    """

    def __init__(self, loop: VirtualLoop, rng: random.Random, latency: Latency) -> None:
        self.memory = MemoryStore()
        self.errors = 0.0
        self.violations: list[str] = []
        # Called with the type, the ID and the document after each commit that was applied.
        self.on_commit: Callable[[str, str, dict[str, Any]], None] | None = None
        # Returns True if the event with this ID is in its stream.
        self.is_published: Callable[[str], bool] = lambda id: True
        # Returns True if an incarnation has released the partition of an object of this type and ID.
        self.is_released: Callable[[str, str, str], bool] = lambda incarnation, type, id: False
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

    def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        """Apply commits, and check what each one changes."""
        documents: Documents = self.memory.documents[type]
        outcomes: list[Outcome] = []
        for commit in commits:
            before = _versions_and_events(documents.get(commit.id))
            outcomes += self.run(self.memory.commit(type, [commit]))
            if outcomes[-1] is Outcome.APPLIED:
                self._check_version(type, commit, before[0])
                self._check_events(type, commit.id, before[1])
                if self.on_commit is not None:
                    self.on_commit(type, commit.id, documents[commit.id])
        return outcomes

    def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        """Clear outboxes, and check that nothing is lost."""
        documents: Documents = self.memory.documents[type]
        before = {point.id: _versions_and_events(documents.get(point.id))[1] for point in points}
        cleared: bool = self.run(self.memory.clear_outboxes(type, points))
        for id, events in before.items():
            self._check_events(type, id, events)
        return cleared

    def check_sent(self, type: str, commits: Sequence[Commit]) -> None:
        """A host that releases a partition has finished all commits of its objects."""
        for commit in commits:
            if self.is_released(commit.owner.rpartition(".")[0], type, commit.id):
                self.violations.append(f"a host commits {type}:{commit.id} after it has released the partition")

    def _check_version(self, type: str, commit: Commit, before: int) -> None:
        """Each commit that changes the state advances the version, and no commit takes it back."""
        after = self.memory.documents[type][commit.id]["version"]
        changes = "state" in commit.set or "state" in commit.unset
        if after < before or (changes and after == before):
            self.violations.append(f"a commit has set the version of {type}:{commit.id} from {before} to {after}")

    def _check_events(self, type: str, id: str, before: set[str]) -> None:
        """An event leaves its outbox only after it is in its stream."""
        for number in before - self.memory.documents[type].get(id, {}).get("outbox", {}).keys():
            if not self.is_published(f"{type}:{id}:{number}"):
                self.violations.append(f"the event {number} of {type}:{id} has left the outbox and isn't published")


def _versions_and_events(document: dict[str, Any] | None) -> tuple[int, set[str]]:
    """Return the version of a document, and the numbers of the events in its outbox."""
    if document is None:
        return 0, set()
    outbox = document.get("outbox")
    events = {number for number, entry in outbox.items() if entry["kind"] == "event"} if outbox else set()
    return document["version"], events


class SimulatedStore:
    """The store as one process sees it. `reachable` returns False while the network keeps them apart.

    `delay` is for how many seconds the next call is held up on its way, in addition to what is usual. Its caller waits
    longer by as much.
    """

    def __init__(self, disk: Disk, process: Process, reachable: Callable[[], bool]) -> None:
        self._disk = disk
        self._process = process
        self._reachable = reachable
        self.delay = 0.0

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._disk.memory, name)

        async def call(*args: Any, **options: Any) -> Any:
            return await self._send(name, lambda: self._disk.run(method(*args, **options)))

        return call

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        sent = [commit._replace(set=dict(commit.set)) for commit in commits]
        self._disk.check_sent(type, commits)
        try:
            outcomes: list[Outcome] = await self._send("commit", partial(self._disk.commit, type, sent))
            return outcomes
        except StoreError:
            return [Outcome.UNKNOWN for _ in commits]

    async def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        cleared: bool = await self._send("clear_outboxes", partial(self._disk.clear_outboxes, type, points))
        return cleared

    async def _send(self, name: str, apply: Callable[[], Any]) -> Any:
        """Apply a call at the store, and return its result. Raises `StoreError`."""
        disk, loop = self._disk, self._disk.loop
        answered: asyncio.Future[Any] = loop.create_future()
        self._process.reach(f"store.{name}")
        held, self.delay = self.delay, 0.0
        late = loop.call_later(TIMEOUT + held, _fail, answered, "no answer", context=self._process.context)
        fault = disk.rng.random() if disk.errors else 1.0
        delay = soon = held + disk.latency.draw()
        answers = True
        if fault < disk.errors:
            kind = disk.rng.choice(("refused", "lost", "silent", "late", "repeated"))
            if kind == "refused":
                self._settle_after(delay, _fail, answered, "the connection was refused")
                return await answered
            if kind == "late":
                delay += disk.rng.random() * LATEST
            if kind == "repeated":
                again = delay + disk.rng.random() * LATEST
                loop.world.call(self._arrive, name, apply, answered, False, delay=again)
            answers = kind == "repeated" or (kind == "silent" and disk.rng.random() < 0.3)
            if kind != "repeated" and disk.rng.random() < 0.5:
                self._settle_after(soon + disk.latency.draw(), _fail, answered, "the connection was reset")
            if kind == "lost":
                return await answered
        if self._reachable():
            loop.world.call(self._arrive, name, apply, answered, answers, delay=delay)
        try:
            return await answered
        finally:
            late.cancel()

    def _arrive(self, name: str, apply: Callable[[], Any], answered: asyncio.Future[Any], answers: bool) -> None:
        settle: Callable[..., object]
        try:
            settle, result = _resolve, apply()
        except StoreError as error:
            settle, result = _fail, str(error)
        if answers and self._reachable():
            self._settle_after(self._disk.latency.draw(), self._answer, name, settle, answered, result)

    def _answer(self, name: str, settle: Callable[..., object], *args: object) -> None:
        settle(*args)
        self._process.reach(f"answer.{name}")

    def _settle_after(self, delay: float, settle: Callable[..., object], *args: object) -> None:
        loop = self._disk.loop
        loop.arrive_at(loop.now + delay, self._process, self, settle, *args)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], reason: str) -> None:
    if not future.done():
        future.set_exception(StoreError(reason))
