"""Group commit: the updates of many objects in one bulk write, with the output gate behind it.

Promise: no reply and no outbox entry leaves before the commit that it shows is durable. While one bulk write is in
progress, the next batch gathers, and all turns of one object since its last commit become one update. After a larger
bulk write, the next one waits for a moment. A type may set a least time between its bulk writes, for which commits
gather as well.

A commit that the fence refuses discards its activation and fails the waiting requests. A commit with an unknown
outcome is resolved by a new claim, which fences every copy of the commit that may still arrive, and then by a read.
If the document holds our commit ID or a caller's record, the commit was applied. Otherwise it was not, and never
will be. A plain read would prove nothing, because a late copy could still land after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import NamedTuple

from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.owner_ids import OwnerIds
from aidevos.durable.store.port import Claim, Commit, CommitPoint, Document, Outcome, StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import find_record
from aidevos.durable.turns.course import Batch
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.failures import moved, not_applied, outcome_unknown
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.pending import PendingCommit, fail_waiting, take_all
from aidevos.durable.turns.report import report_batch
from aidevos.observability.metrics import COMMIT_BATCH_SIZE, COMMIT_BYTES, COMMIT_SECONDS, COMMITS

log = logging.getLogger(__name__)
BATCH_COUNT = 500
# A batch of more commits is settled in slices.
SETTLED_AT_ONCE = 32
BATCH_BYTES = 32 * 1024 * 1024
RESOLVE_FOR = 30.0
BACKOFF = Backoff(0.05, 2.0)
# Seconds to wait for more commits if the last bulk write had more. The first of those that it has answered would
# otherwise commit alone, and all others after it.
GATHER = 0.001
# Seconds after which delivered entries are cleared from their documents, unless a commit of the object does so before.
CLEAR_AFTER = 0.5


class _Clearing(NamedTuple):
    """An empty outbox to clear: `pending` holds its removals, and the document must still be at `point`."""

    activation: Activation
    pending: PendingCommit | None
    point: CommitPoint


class GroupCommit:
    """Commits the activations of one type, in bulk writes that begin at least `interval` seconds apart.

    `on_committed` is called when a commit is durable. `on_resolved` is called after an unknown outcome, with the
    document that the new claim has read.
    """

    def __init__(
        self,
        environment: Environment,
        catalogue: Catalogue,
        owner_ids: OwnerIds,
        type: str,
        interval: float = 0.0,
        *,
        on_committed: Callable[[Activation, PendingCommit], None],
        on_resolved: Callable[[Activation, Document], None],
    ) -> None:
        self._environment = environment
        self._catalogue = catalogue
        self._owner_ids = owner_ids
        self._type = type
        self._interval = interval
        # When the next bulk write may begin.
        self._due_at = 0.0
        self._on_committed = on_committed
        self._on_resolved = on_resolved
        self._ready: dict[Activation, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._to_clear: dict[Activation, None] = {}
        self._in_progress = self._last_count = 0
        self._written = COMMITS.labels(type, "written")

    @property
    def waiting(self) -> int:
        """The number of objects whose commit waits or is in progress."""
        return len(self._ready) + self._in_progress

    def remove_sent(self, activation: Activation, number: int) -> None:
        """Remove a delivered outbox entry, soon and in a batch with others."""
        entry = activation.outbox.pop(number)
        activation.outbox_size -= len(entry["payload"])
        fresh = activation.pending is None
        activation.open_pending().changes.drop(f"outbox.{number}")
        self._catalogue.residents.recount(activation)
        if fresh:
            if not self._to_clear:
                asyncio.get_running_loop().call_later(CLEAR_AFTER, self._clear_sent)
            self._to_clear[activation] = None

    def add(self, activation: Activation) -> None:
        """Commit the pending changes of an activation with the next batch."""
        if activation.in_flight is None:
            self._ready[activation] = None
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._ready:
                if self._interval:
                    await self._gather()
                elif self._last_count > len(self._ready):
                    await asyncio.sleep(GATHER)
                batch = self._seal()
                self._in_progress = self._last_count = len(batch)
                if batch:
                    outcomes, written = await self._apply([commit for _, commit in batch.values()])
                    self._count(outcomes)
                    settling = self._settle_each(batch, outcomes, written)
                    if len(batch) > SETTLED_AT_ONCE:
                        await self._environment.slices.run(settling)
                    for _ in settling:
                        pass
                    report_batch(written)
        finally:
            self._task, self._in_progress = None, 0

    async def _gather(self) -> None:
        """Return when the next bulk write may begin."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._due_at - loop.time())
        self._due_at = loop.time() + self._interval

    def _settle_each(
        self, batch: dict[Activation, tuple[PendingCommit, Commit]], outcomes: list[Outcome], written: Batch
    ) -> Iterator[None]:
        for (activation, (pending, commit)), outcome in zip(batch.items(), outcomes, strict=True):
            pending.batch = written
            try:
                self._settle(activation, pending, commit, outcome)
            except Exception:
                self._give_up(activation, pending)
            yield

    async def _apply(self, commits: list[Commit]) -> tuple[list[Outcome], Batch]:
        written = Batch(self._type, len(commits), sum(commit.size for commit in commits), perf_counter())
        COMMIT_BATCH_SIZE.observe(written.size)
        COMMIT_BYTES.observe(written.bytes)
        try:
            outcomes = await self._environment.store.commit(self._type, commits)
        except Exception:
            log.exception("committing objects of %s failed in an unexpected way", self._type)
            outcomes = [Outcome.UNKNOWN] * len(commits)
        written.ended_at = perf_counter()
        COMMIT_SECONDS.observe(written.ended_at - written.began_at)
        return outcomes, written

    def _count(self, outcomes: list[Outcome]) -> None:
        written = outcomes.count(Outcome.APPLIED)
        self._written.inc(written)
        if written < len(outcomes):
            for outcome in outcomes:
                if outcome is not Outcome.APPLIED:
                    COMMITS.labels(self._type, outcome.value).inc()

    def _give_up(self, activation: Activation, pending: PendingCommit) -> None:
        """Fail everything that still waits for a commit whose settling has raised."""
        log.exception("%s: settling a commit failed", activation.object_id, extra=activation.log_fields)
        fail_waiting(pending, outcome_unknown())
        self._catalogue.discard(activation)

    def _clear_sent(self) -> None:
        """Clear the outboxes of activations without other changes in bulk, and commit the rest as usual.

        The points to clear are taken here, in the step that finds the outboxes empty. Taken any later, they could
        include a commit with new entries, which the clearing would erase.
        """
        sent, self._to_clear = self._to_clear, {}
        cleared = []
        for activation in sent:
            if activation.only_clears_outbox and not activation.broken:
                activation.relay_flag = None
                point = CommitPoint(activation.id, activation.owner, activation.commit or "")
                cleared.append(_Clearing(activation, activation.pending, point))
            else:
                self.add(activation)
        for first in range(0, len(cleared), BATCH_COUNT):
            self._environment.spawn(self._clear(cleared[first : first + BATCH_COUNT]))

    async def _clear(self, clearings: list[_Clearing]) -> None:
        """Empty these outboxes.

        Turns and commits continue meanwhile. A commit that lands first prevents the clearing of its document, and a
        later one writes the `relay` flag again.
        """
        try:
            cleared = await self._environment.store.clear_outboxes(self._type, [item.point for item in clearings])
        except StoreError as error:
            log.warning("clearing outboxes of %s failed, committing them one by one: %s", self._type, error)
            cleared = False
        for activation, pending, _ in clearings:
            if cleared and activation.pending is pending and activation.only_clears_outbox:
                activation.pending, activation.relay_flag = None, False
            else:
                self.add(activation)

    def _seal(self) -> dict[Activation, tuple[PendingCommit, Commit]]:
        now = self._environment.clock.now()
        batch: dict[Activation, tuple[PendingCommit, Commit]] = {}
        size = 0
        while self._ready and len(batch) < BATCH_COUNT and size < BATCH_BYTES // 2:
            activation = next(iter(self._ready))
            del self._ready[activation]
            if activation.broken or activation.pending is None:
                continue
            pending = activation.pending
            try:
                commit = activation.seal(pending, now)
            except Exception:
                log.exception("%s: a commit could not be assembled", activation.object_id, extra=activation.log_fields)
                COMMITS.labels(self._type, "failed").inc()
                fail_waiting(pending, not_applied())
                self._catalogue.discard(activation)
                continue
            batch[activation] = (pending, commit)
            size += commit.size
        return batch

    def _settle(self, activation: Activation, pending: PendingCommit, commit: Commit, outcome: Outcome) -> None:
        if outcome is Outcome.UNKNOWN:
            activation.mailbox.hold()
            self._environment.spawn(self._resolve(activation, pending, commit))
        elif activation.broken:
            self._finish(activation, pending, None if outcome is Outcome.APPLIED else not_applied())
        elif outcome is Outcome.FENCED:
            log.warning(
                "%s: a commit was fenced, another process owns the object",
                activation.object_id,
                extra=activation.log_fields,
            )
            self._finish(activation, pending, not_applied())
            self._catalogue.discard(activation)
        elif outcome is Outcome.EXISTS:
            self._catalogue.start_over(activation)
        else:
            activation.in_flight = None
            activation.founding = False
            if pending.shows is not None:
                activation.committed = pending.shows
            self._finish(activation, pending, None)
            self._on_committed(activation, pending)
            self._catalogue.residents.recount(activation)
            if activation.pending is not None:
                self.add(activation)

    def _finish(self, activation: Activation, pending: PendingCommit, failure: Failure | None) -> None:
        """Answer all requests that wait for a commit, now that its outcome is known."""
        activation.last_used = asyncio.get_running_loop().time()
        if failure is not None:
            fail_waiting(pending, failure)
            return
        for request, answer in take_all(pending.waiters):
            request.batch = pending.batch
            request.respond(answer)
        if pending.readers:
            owns = self._environment.owns(activation)
            for request, answer in take_all(pending.readers):
                request.batch = pending.batch
                request.respond(answer if owns else Reply.of(moved()))
        for callback in take_all(pending.callbacks):
            callback(None)

    async def _resolve(self, activation: Activation, pending: PendingCommit, commit: Commit) -> None:
        try:
            await self._settle_unknown(activation, pending, commit)
        except Exception:
            self._give_up(activation, pending)

    async def _settle_unknown(self, activation: Activation, pending: PendingCommit, commit: Commit) -> None:
        document = await self._claim_again(activation)
        log.warning(
            "%s: the outcome of a commit was unknown: %s", activation.object_id, _describe_resolution(document, commit)
        )
        if document is not None and document.commit == commit.commit:
            self._finish(activation, pending, None)
        else:
            self._answer_from_records(activation, pending, document)
        self._catalogue.discard(activation)
        if document is not None:
            self._on_resolved(activation, document)

    async def _claim_again(self, activation: Activation) -> Document | None:
        """Claim the document while this process owns it, and return it; None if it can't for `RESOLVE_FOR` seconds."""
        loop = asyncio.get_running_loop()
        end, pauses = loop.time() + RESOLVE_FOR, BACKOFF.pauses()
        while not activation.broken and loop.time() < end:
            if self._environment.owns(activation):
                claim = Claim(activation.id, self._owner_ids.next(), activation.partition)
                try:
                    return (await self._environment.store.claim(self._type, [claim])).get(activation.id)
                except StoreError as error:
                    log.warning(
                        "%s: claiming again failed: %s", activation.object_id, error, extra=activation.log_fields
                    )
            await pauses.wait()
        return None

    def _answer_from_records(self, activation: Activation, pending: PendingCommit, document: Document | None) -> None:
        waiters, pending.waiters = pending.waiters, []
        for request, answer in waiters:
            record = None
            if document is not None and request.key is not None:
                record = find_record(document.replies, request.key, request.fingerprint)
            if record is not None:
                request.respond(record.reply)
            else:
                pending.waiters.append((request, answer))
        fail_waiting(pending, outcome_unknown())


def _describe_resolution(document: Document | None, commit: Commit) -> str:
    if document is None:
        return "left to the next owner"
    return "applied" if document.commit == commit.commit else "resolved from the completion records"
