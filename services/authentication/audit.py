"""The security log: one object for each entry, written once and never changed.

Promise: an entry is there if and only if what it tells of was committed; it is written by services
alone, and leaves by age alone.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from aidevos import BaseDurableObject, Failure, command, permission, services
from aidevos.contracts.audit import (
    READ_AUDIT,
    SEARCH,
    TYPE,
    Action,
    AuditEntry,
    FindEntries,
    Moment,
    Outcome,
    Party,
    Reason,
)
from aidevos.durable.clock import rfc3339, timestamp
from aidevos.durable.object import Search
from aidevos.durable.store.port import Between, Find
from aidevos.settings import Settings

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
    equal = {"actor": args.actor, "target": args.target, "outcome": args.outcome}
    between = {"at": Between(_seconds(args.since), _seconds(args.until))}
    if args.action is not None and args.action.endswith("*"):
        prefix = args.action.removesuffix("*")
        # No action has a character as great as this one.
        between["action"] = Between(prefix, prefix + "\x7f")
    else:
        equal["action"] = args.action
    return Find(
        equal={path: value for path, value in equal.items() if value is not None},
        text="",
        within=(),
        order="at",
        descending=args.sort == "-at",
        after=None,
        limit=args.limit,
        between=between,
    )


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

    settings: ClassVar[Settings]
    searches = (Search(SEARCH, permission(READ_AUDIT) | services(), FindEntries, find, show, INDEXES),)

    @command(allow=services())
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


def _seconds(moment: Moment | None) -> float | None:
    return None if moment is None else moment.timestamp()
