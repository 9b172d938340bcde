"""Group commit: many objects' updates in one bulk write, and the output gate behind it.

Promise: no reply and no outbox entry leaves before the commit that it shows is durable. While one
bulk write is under way the next batch gathers, and all turns of one object since its last commit
become one update. A commit that is refused by the fence discards its activation and fails whoever
waited. A commit whose outcome is unknown is resolved by a new claim, which fences every copy of it
that is still on its way, and then by reading: our commit or a caller's record is there, so it was
applied; else it was not, and never will be. A plain read would prove nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.owner_ids import OwnerIds
from aidevos.durable.store.port import Claim, Commit, CommitPoint, Document, Outcome, StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import recorded
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.failures import not_applied, outcome_unknown
from aidevos.durable.turns.pending import Pending, fail_all

log = logging.getLogger(__name__)
BATCH_COUNT = 500
BATCH_BYTES = 32 * 1024 * 1024
RESOLVE_FOR = 30.0
BACKOFF = Backoff(0.05, 2.0)
CLEAR_AFTER = 0.1


class GroupCommit:
    """Commits the activations of one type. `committed` is called when a commit is durable, and `resolved` when the
    outcome of one was unknown, with the document as a new claim has found it."""

    def __init__(
        self,
        environment: Environment,
        catalogue: Catalogue,
        owner_ids: OwnerIds,
        type: str,
        *,
        committed: Callable[[Activation, Pending], None],
        resolved: Callable[[Activation, Document], None],
    ) -> None:
        self._environment = environment
        self._catalogue = catalogue
        self._owner_ids = owner_ids
        self._type = type
        self._committed = committed
        self._resolved = resolved
        self._ready: dict[Activation, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._sent: dict[Activation, None] = {}

    def sent(self, activation: Activation, number: int) -> None:
        """Remove an outbox entry that was delivered from the document: soon, and together with others."""
        entry = activation.outbox.pop(number)
        activation.outbox_size -= len(entry["payload"])
        fresh = activation.pending is None
        activation.open_pending().changes.drop(f"outbox.{number}")
        if fresh:
            if not self._sent:
                asyncio.get_running_loop().call_later(CLEAR_AFTER, self._clear_sent)
            self._sent[activation] = None

    def add(self, activation: Activation) -> None:
        """Commit what is pending of an activation with the next batch."""
        if activation.in_flight is None:
            self._ready[activation] = None
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._ready:
                batch = self._seal()
                if batch:
                    commits = [commit for _, commit in batch.values()]
                    outcomes = await self._environment.store.commit(self._type, commits)
                    for (activation, (pending, commit)), outcome in zip(batch.items(), outcomes, strict=True):
                        try:
                            self._settle(activation, pending, commit, outcome)
                        except Exception:
                            log.exception("%s: settling a commit failed", activation.object_id)
                            self._catalogue.discard(activation)
        finally:
            self._task = None

    def _clear_sent(self) -> None:
        """Those of which nothing else has changed need no commit of their own."""
        sent, self._sent = self._sent, {}
        clear = [activation for activation in sent if activation.only_sent and not activation.broken]
        for activation in sent.keys() - clear:
            self.add(activation)
        for first in range(0, len(clear), BATCH_COUNT):
            self._environment.spawn(self._clear(clear[first : first + BATCH_COUNT]))

    async def _clear(self, activations: list[Activation]) -> None:
        """Empty these outboxes. Turns and commits go on meanwhile: one that comes first keeps its document from
        being cleared, and one that comes later says anew whether there is something to relay."""
        places = []
        for activation in activations:
            activation.relay_flag = None
            places.append((activation.pending, CommitPoint(activation.id, activation.owner, activation.commit or "")))
        try:
            cleared = await self._environment.store.clear_outboxes(self._type, [place for _, place in places])
        except StoreError as error:
            log.warning("outboxes of %s could not be cleared, trying it one by one: %s", self._type, error)
            cleared = False
        for activation, (pending, _) in zip(activations, places, strict=True):
            if cleared and activation.pending is pending and activation.only_sent:
                activation.pending, activation.relay_flag = None, False
            else:
                self.add(activation)

    def _seal(self) -> dict[Activation, tuple[Pending, Commit]]:
        now = self._environment.clock.now()
        batch: dict[Activation, tuple[Pending, Commit]] = {}
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
                log.exception("%s: a commit could not be put together", activation.object_id)
                fail_all(pending, not_applied())
                self._catalogue.discard(activation)
                continue
            batch[activation] = (pending, commit)
            size += commit.size
        return batch

    def _settle(self, activation: Activation, pending: Pending, commit: Commit, outcome: Outcome) -> None:
        if outcome is Outcome.UNKNOWN:
            activation.mailbox.hold()
            self._environment.spawn(self._resolve(activation, pending, commit))
        elif activation.broken:
            self._finish(activation, pending, None if outcome is Outcome.APPLIED else not_applied())
        elif outcome is Outcome.FENCED:
            log.warning("%s: a commit was fenced, another process owns the object", activation.object_id)
            self._finish(activation, pending, not_applied())
            self._catalogue.discard(activation)
        elif outcome is Outcome.EXISTS:
            self._catalogue.start_over(activation)
        else:
            activation.in_flight = None
            activation.founding = False
            if pending.state_changed:
                activation.committed = commit.set["state"].raw if "state" in commit.set else b""
            self._finish(activation, pending, None)
            self._committed(activation, pending)
            if activation.pending is not None:
                self.add(activation)

    def _finish(self, activation: Activation, pending: Pending, failure: Failure | None) -> None:
        """Tell everybody who waits for a commit what has become of it."""
        activation.last_used = asyncio.get_running_loop().time()
        if failure is not None:
            fail_all(pending, failure)
            return
        for request, answer in pending.waiters:
            request.respond(answer)
        valid = self._environment.may_answer()
        for request, answer in pending.readers:
            request.respond(answer if valid else None)
        for callback in pending.callbacks:
            callback(None)

    async def _resolve(self, activation: Activation, pending: Pending, commit: Commit) -> None:
        document = await self._claim_again(activation)
        log.warning("%s: the outcome of a commit was unknown, now %s", activation.object_id, _found(document, commit))
        if document is not None and document.commit == commit.commit:
            self._finish(activation, pending, None)
        else:
            self._answer_from_records(activation, pending, document)
        self._catalogue.discard(activation)
        if document is not None:
            self._resolved(activation, document)

    async def _claim_again(self, activation: Activation) -> Document | None:
        loop = asyncio.get_running_loop()
        end, pauses = loop.time() + RESOLVE_FOR, BACKOFF.pauses()
        while not activation.broken and loop.time() < end:
            claim = Claim(activation.id, self._owner_ids.next(), activation.partition)
            try:
                return (await self._environment.store.claim(self._type, [claim])).get(activation.id)
            except StoreError as error:
                log.warning("%s: claiming again failed: %s", activation.object_id, error)
            await pauses.wait()
        return None

    def _answer_from_records(self, activation: Activation, pending: Pending, document: Document | None) -> None:
        waiters, pending.waiters = pending.waiters, []
        for request, answer in waiters:
            record = None
            if document is not None and request.key is not None:
                record = recorded(document.replies, request.key, request.fingerprint)
            if record is not None:
                request.respond(record.reply)
            else:
                pending.waiters.append((request, answer))
        fail_all(pending, outcome_unknown())


def _found(document: Document | None, commit: Commit) -> str:
    if document is None:
        return "left to the next owner"
    return "applied" if document.commit == commit.commit else "known by the records"
