"""A dead letter: something that couldn't be delivered, until it is replayed or deleted, or too old.

Promises: a letter that was buried again is the same letter. What it would be sent with is encrypted at
rest, and shown in no list; where the method's arguments are confidential it is shown to nobody.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from aidevos import BaseDurableObject, Failure, command, permission, query, services
from aidevos.contracts.dead_letters import MANAGE, SEARCH, TYPE, DeadLetter, FindLetters, Kind, Letter
from aidevos.contracts.envelope import MSGPACK
from aidevos.durable.clock import rfc3339_of
from aidevos.durable.object import Search
from aidevos.durable.store.condition import And, Compare, Condition
from aidevos.durable.store.port import Find
from aidevos.security.audit import record
from aidevos.security.sealed import Sealer
from aidevos.settings import Settings

AT = ("at",)
# By time, alone and after each of the filters.
INDEXES = (("at",), ("kind", "at"), ("status", "at"), ("source", "at"))


class DeadLetterState(msgspec.Struct):
    """`sealed` is the payload, encrypted. Times are in seconds since the epoch."""

    status: Literal["none", "dead", "replaying", "replayed"] = "none"
    kind: Kind = "tell"
    source: str = ""
    subject: str = ""
    sealed: str = ""
    content_type: str = ""
    confidential: bool = False
    from_client: bool = False
    code: str = ""
    detail: str = ""
    attempts: int = 0
    at: float = 0.0
    replays: int = 0
    replayed_by: str = ""
    replayed_at: float = 0.0


def find(args: FindLetters) -> Find:
    """What the store is asked for a search."""
    where: list[Condition] = [
        Compare((name,), "eq", value)
        for name, value in {"kind": args.kind, "status": args.status, "source": args.source}.items()
        if value is not None
    ]
    if args.until is not None:
        where.append(Compare(AT, "lt", args.until.timestamp()))
    return Find(And(tuple(where)), args.limit, AT, descending=args.sort == "-at")


def show(id: str, state: DeadLetterState, version: int) -> DeadLetter:
    """The letter as a list shows it."""
    assert state.status != "none"  # noqa: S101
    return DeadLetter(
        id=id,
        kind=state.kind,
        status=state.status,
        source=state.source,
        subject=state.subject,
        code=state.code,
        detail=state.detail,
        attempts=state.attempts,
        confidential=state.confidential,
        from_client=state.from_client,
        at=rfc3339_of(state.at),
        replays=state.replays,
        replayed_by=state.replayed_by,
        replayed_at=rfc3339_of(state.replayed_at) if state.replays else None,
        version=version,
    )


class DeadLetterDO(BaseDurableObject[DeadLetterState], type=TYPE, management="read_only"):
    """Something that couldn't be delivered."""

    settings: ClassVar[Settings]
    sealer: ClassVar[Sealer]
    # A sealed payload is a third longer than an object's outbox may be.
    state_limit = 3 * 1024 * 1024
    searches = (Search(SEARCH, permission(MANAGE) | services(), FindLetters, find, show, INDEXES),)

    @command(allow=services(), founds=True)
    async def bury(self, letter: Letter) -> None:
        """Become this letter; nothing changes where it is one already."""
        if self.state.status != "none":
            return
        self.state = DeadLetterState(
            status="dead",
            kind=letter.kind,
            source=letter.source,
            subject=letter.subject,
            sealed=self.sealer.seal(letter.payload, TYPE, self.id),
            content_type=letter.content_type,
            confidential=letter.confidential,
            from_client=letter.from_client,
            code=letter.code,
            detail=letter.detail,
            attempts=letter.attempts,
            at=letter.at,
        )

    @query(allow=permission(MANAGE))
    async def read(self) -> DeadLetter:
        """The letter, with what it would be sent with."""
        self._check()
        shown = show(self.id, self.state, self.version)
        if not self.state.confidential:
            shown.args = _decoded(self._payload(), self.state.content_type)
        return shown

    @command(allow=permission(MANAGE))
    async def remove(self) -> None:
        """Delete the letter; what it says is lost."""
        self._check()
        record(self, "dead_letter.deleted", target=self.id, reason=self.state.subject)
        await self.delete()

    @command(allow=services())
    async def expire(self) -> None:
        """Go, if the letter is older than letters are kept."""
        if self.state.at + self.settings.letter_age <= self.now:
            await self.delete()

    def _check(self) -> None:
        if self.state.status == "none":
            raise Failure("not-found", "there is no such letter")

    def _payload(self) -> bytes:
        return self.sealer.open(self.state.sealed, TYPE, self.id)


def _decoded(payload: bytes, content_type: str) -> Any:
    decode = msgspec.msgpack.decode if content_type == MSGPACK else msgspec.json.decode
    try:
        return decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
