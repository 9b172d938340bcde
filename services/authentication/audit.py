"""The security log: one object for each entry, written once and never changed.

Promise: an entry is there if and only if what it tells of was committed; it is written by services
alone, and leaves by age alone.
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
# By time, alone and after each of the filters that select few.
INDEXES = (("at",), ("actor", "at"), ("target", "at"), ("action", "at"))


class AuditState(msgspec.Struct):
    """`at` is in seconds since the epoch."""

    at: float = 0.0
    actor: str = ""
    action: str = ""
    target: str = ""
    outcome: Outcome = "success"
    reason: str = ""
    address: str = ""
    session: str = ""


def find(args: FindEntries) -> Find:
    """What the store is asked for a search."""
    where: list[Condition] = [
        Compare((name,), "eq", value)
        for name, value in {"actor": args.actor, "target": args.target, "outcome": args.outcome}.items()
        if value is not None
    ]
    if args.action is not None:
        begun = args.action.endswith("*")
        where.append(StartsWith(ACTION, args.action[:-1]) if begun else Compare(ACTION, "eq", args.action))
    if args.since is not None:
        where.append(Compare(AT, "gte", args.since.timestamp()))
    if args.until is not None:
        where.append(Compare(AT, "lt", args.until.timestamp()))
    return Find(And(tuple(where)), args.limit, AT, descending=args.sort == "-at")


def show(id: str, state: AuditState, version: int) -> AuditEntry:
    """The entry as it is shown."""
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
    """An entry of the security log."""

    settings: Settings = inject()
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
        """Become an entry, once."""
        if self.state.action:
            raise Failure("exists", "the entry was written already")
        self.state = AuditState(at, actor, action, target, outcome, reason, address, session)

    @command(allow=services())
    async def expire(self) -> None:
        """Go, if the entry is older than entries are kept."""
        if self.state.at + self.settings.audit_age <= self.now:
            await self.delete()
