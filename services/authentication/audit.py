"""The security log: one object per entry, written once and never changed.

Promise: an entry exists if and only if the change that it records was committed. Only services
write entries, and an entry is removed only by its age.

An entry travels as a tell from the outbox of the object that it concerns, so nothing waits for its commit. The commits
of many entries therefore share bulk writes.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, permission, services
from aidevos.contracts.audit import (
    READ_AUDIT,
    SEARCH,
    TYPE,
    Action,
    AuditEntry,
    FindEntries,
    Outcome,
    Party,
    Reason,
)
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.queries import And, Compare, Condition, Find, Search, StartsWith
from aidevos.settings import Settings

AT, ACTION = ("at",), ("action",)
# By time, alone and after each selective filter.
INDEXES = (("at",), ("actor", "at"), ("target", "at"), ("action", "at"))
# Seconds between two bulk writes of entries. Entries that come alone are written at once.
COMMIT_INTERVAL = 0.2


class AuditState(msgspec.Struct):
    """The content of one entry; `at` is in seconds since the epoch."""

    at: float = 0.0
    actor: str = ""
    action: str = ""
    target: str = ""
    outcome: Outcome = "success"
    reason: str = ""
    address: str = ""
    session: str = ""


def find(args: FindEntries) -> Find:
    """Return the store query for a search of the security log."""
    where: list[Condition] = [
        Compare((name,), "eq", value)
        for name, value in {"actor": args.actor, "target": args.target, "outcome": args.outcome}.items()
        if value is not None
    ]
    if args.action is not None:
        is_prefix = args.action.endswith("*")
        where.append(StartsWith(ACTION, args.action[:-1]) if is_prefix else Compare(ACTION, "eq", args.action))
    if args.since is not None:
        where.append(Compare(AT, "gte", args.since.timestamp()))
    if args.until is not None:
        where.append(Compare(AT, "lt", args.until.timestamp()))
    return Find(And(tuple(where)), args.limit, AT, descending=args.sort == "-at")


def show(id: str, state: AuditState, version: int) -> AuditEntry:
    """Return the entry as callers see it."""
    return AuditEntry(
        id=id,
        at=rfc3339(timestamp(state.at)),
        actor=state.actor,
        action=state.action,
        target=state.target,
        outcome=state.outcome,
        reason=state.reason,
        address=state.address,
        session=state.session,
    )


class AuditDO(BaseDurableObject[AuditState], type=TYPE, management="read_only"):
    """One entry of the security log."""

    settings: Settings = inject()
    commit_interval = COMMIT_INTERVAL
    searches = (Search(SEARCH, permission(READ_AUDIT) | services(), FindEntries, find, show, INDEXES),)

    @command(allow=services(), creates=True)
    async def record(
        self,
        at: float,
        actor: Party,
        action: Action,
        target: Party,
        outcome: Outcome,
        reason: Reason,
        address: Party,
        session: Party,
    ) -> None:
        """Write this entry. Raises `exists` if it has been written before."""
        if self.state.action:
            raise Failure("exists", "this entry has already been written")
        self.state = AuditState(at, actor, action, target, outcome, reason, address, session)

    @command(allow=services())
    async def expire(self) -> None:
        """Delete the entry if it is older than the retention period."""
        if self.state.at + self.settings.audit_age <= self.now:
            await self.delete()
