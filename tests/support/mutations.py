"""Mutations: each breaks one guarantee of the product in a test build, so that the proofs must find it.

Each is a context manager that patches the product's code. Real processes switch one on with `TEST_MUTATION=<name>`,
which only the tests' own entry points read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from aidevos.durable.delivery.tells import Tells
from aidevos.durable.hosting.host import Host
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.placement import Placement
from aidevos.durable.ownership import commit as commits
from aidevos.durable.ownership.commit import BATCH_COUNT, GroupCommit
from aidevos.durable.ownership.lifecycle import Lifecycle
from aidevos.durable.ownership.router import DurableObjectRouter
from aidevos.durable.store import memory, mongo_fence
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import Claim, Commit, CommitPoint, Document, Outcome, StoreError
from aidevos.durable.turns import outcome as outcomes
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import CompletionRecords, Record
from aidevos.durable.turns.failures import moved
from aidevos.durable.turns.headers import Reply, RequestKey
from aidevos.durable.turns.pending import PendingCommit
from aidevos.security.permissions import Principal

VARIABLE = "TEST_MUTATION"


@contextmanager
def _fenced_by(validator: dict[str, Any], accepts: Callable[..., bool]) -> Iterator[None]:
    """Replace the rule of the fence, and don't try it when a type is opened."""

    async def believe(*_: object) -> None:
        """Do nothing."""

    with (
        patch.dict(mongo_fence.OPTIONS, validator=validator),
        patch.object(MongoStore, "_prove_fence", believe),
        patch.object(memory, "_accepts", accepts),
    ):
        yield


@contextmanager
def fence_off() -> Iterator[None]:
    """Let the store apply a commit to any document, whatever owner and turn it finds."""
    with _fenced_by({"created_at": {"$exists": True}}, lambda document, *_: "created_at" in document):
        yield


@contextmanager
def validator_missing() -> Iterator[None]:
    """Let the store apply any commit, also where there is no document."""
    with _fenced_by({}, lambda *_: True):
        yield


@contextmanager
def expected_unchecked() -> Iterator[None]:
    """Let the store apply late and repeated commits of an owner, and commits that skip others."""
    same_owner, _, exists = mongo_fence.ACCEPTED["$expr"]["$and"]

    def accepts(document: dict[str, Any], by: str, *_: int) -> bool:
        return document.get("owner") == by and "created_at" in document

    with _fenced_by({"$expr": {"$and": [same_owner, exists]}}, accepts):
        yield


@contextmanager
def claim_repeated() -> Iterator[None]:
    """Apply a copy of each claim after the claimant has read its document."""
    with ExitStack() as stack:
        for store in (MemoryStore, MongoStore):
            stack.enter_context(patch.object(store, "claim", _claim_twice(store.claim)))
        yield


def _claim_twice(claim: Callable[..., Any]) -> Callable[..., Any]:
    async def claim_twice(self: Any, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
        documents: dict[str, Document] = await claim(self, type, claims)
        await claim(self, type, claims)
        return documents

    return claim_twice


@contextmanager
def fenced_commit_repeated() -> Iterator[None]:
    """Claim again after a commit was fenced, and repeat the commit over what others have written."""
    settle = GroupCommit._settle

    async def repeat(self: GroupCommit, activation: Activation, pending: PendingCommit, commit: Commit) -> None:
        claim = Claim(commit.id, commit.owner, activation.partition)
        try:
            activation.turn = (await self._environment.store.claim(self._type, [claim]))[commit.id].turn + 1
        except (StoreError, KeyError):
            settle(self, activation, pending, commit, Outcome.FENCED)
        else:
            (outcome,) = await self._apply([commit._replace(expected=activation.turn)])
            settle(self, activation, pending, commit, outcome)

    def settle_fenced(
        self: GroupCommit, activation: Activation, pending: PendingCommit, commit: Commit, outcome: Outcome
    ) -> None:
        if outcome is Outcome.FENCED and not activation.broken:
            self._environment.spawn(repeat(self, activation, pending, commit))
        else:
            settle(self, activation, pending, commit, outcome)

    with patch.object(GroupCommit, "_settle", settle_fenced):
        yield


@contextmanager
def gate_off() -> Iterator[None]:
    """Answer commands before their commits."""
    record = outcomes.record_outcome

    def answer_at_once(turn: Any, reply: Reply, *, durable: bool) -> None:
        turn.request.respond(reply)
        turn.request._respond = lambda _: None
        record(turn, reply, durable=durable)

    with patch.object(outcomes, "record_outcome", answer_at_once):
        yield


@contextmanager
def records_not_stored() -> Iterator[None]:
    """Keep no completion records."""
    with patch.object(CompletionRecords, "add", lambda *_: None):
        yield


@contextmanager
def late_tells_applied() -> Iterator[None]:
    """Take a late copy of a tell that its sender has settled for a new one."""

    def find(records: CompletionRecords, key: RequestKey, fingerprint: bytes, now: float) -> Record | None:
        client = records._clients.get(key.client)
        if key.tell and client is not None and key.number < client.mark:
            return None
        return find_record(records, key, fingerprint, now)

    find_record = CompletionRecords.find
    with patch.object(CompletionRecords, "find", find):
        yield


@contextmanager
def lease_check_off() -> Iterator[None]:
    """Answer from memory, whether the lease is live or not."""
    with patch.object(Lease, "valid", lambda self: not self.lost.is_set()):
        yield


@contextmanager
def scan_off() -> Iterator[None]:
    """Look for no unsent entries in the store."""

    async def find_nothing(*_: object) -> bool:
        return True

    with patch.object(Lifecycle, "scan", find_nothing), patch.object(Lifecycle, "scan_taken", find_nothing):
        yield


@contextmanager
def released_before_settled() -> Iterator[None]:
    """Release a partition before its requests are finished and committed, and go on answering meanwhile."""

    async def move(self: Placement, type: str, partition: int) -> None:
        left = await self._release(f"{type}.{partition}", self._held.pop((type, partition)))
        await self._hand_over(type, partition)
        if left is not None:
            self._note_own(type, partition, left)

    with patch.object(Placement, "_move", move):
        yield


@contextmanager
def moved_after_accepting() -> Iterator[None]:
    """Answer `moved`, which means that nothing happened, to some requests that run nevertheless."""
    dispatch = DurableObjectRouter.dispatch
    count = 0

    def answer_moved(
        self: DurableObjectRouter,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str],
        principal: Principal,
        respond: Callable[[Reply], None],
        **options: Any,
    ) -> None:
        nonlocal count
        count += 1
        lies = count % 5 == 0
        dispatch(self, subject, payload, headers, principal, (lambda _: None) if lies else respond, **options)
        if lies:
            respond(Reply.of(moved()))

    with patch.object(DurableObjectRouter, "dispatch", answer_moved):
        yield


@contextmanager
def old_owner_answers() -> Iterator[None]:
    """Go on answering for a partition after it was released."""

    async def hand_over(self: Host, type: str, partition: int) -> None:
        await self._runtime.catalogue.settle(1.0, (type, partition))

    async def drop(*_: object) -> None:
        """Do nothing."""

    with patch.object(Host, "_hand_over", hand_over), patch.object(Tells, "drop", drop):
        yield


@contextmanager
def outbox_cleared_late() -> Iterator[None]:
    """Read the commits at which outboxes are cleared one step of the loop too late."""

    def clear_sent(self: GroupCommit) -> None:
        sent, self._to_clear = self._to_clear, {}
        clear = [activation for activation in sent if activation.only_clears_outbox and not activation.broken]
        for activation in sent:
            if activation not in clear:
                self.add(activation)
        for first in range(0, len(clear), BATCH_COUNT):
            self._environment.spawn(_clear_late(self, clear[first : first + BATCH_COUNT]))

    with patch.object(GroupCommit, "_clear_sent", clear_sent):
        yield


async def _clear_late(self: GroupCommit, activations: list[Activation]) -> None:
    clearings = []
    for activation in activations:
        activation.relay_flag = None
        point = CommitPoint(activation.id, activation.owner, activation.commit or "")
        clearings.append(commits._Clearing(activation, activation.pending, point))
    await self._clear(clearings)


MUTATIONS: dict[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (
        fence_off,
        validator_missing,
        expected_unchecked,
        claim_repeated,
        fenced_commit_repeated,
        gate_off,
        records_not_stored,
        late_tells_applied,
        lease_check_off,
        scan_off,
        released_before_settled,
        moved_after_accepting,
        old_owner_answers,
        outbox_cleared_late,
    )
}


@contextmanager
def mutated() -> Iterator[None]:
    """Switch on the mutation that the environment names, if it names one."""
    with ExitStack() as stack:
        if name := os.environ.get(VARIABLE):
            stack.enter_context(MUTATIONS[name]())
        yield
