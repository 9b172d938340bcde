"""A dead letter: something that couldn't be delivered, until it is replayed or deleted, or too old.

Promises: a letter that was buried again is the same letter. What it would be sent with is encrypted at
rest, and shown in no list; where the method's arguments are confidential it is shown to nobody. One
replay is under way at a time, and none follows one that has succeeded; one that fails leaves the letter
with the new failure. A letter is applied at most once, whoever replays it: after a replay whose outcome isn't known
all have its request ID, until one of them gets the recorded outcome, or there may be no record any more.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, permission, query, services
from aidevos.contracts.dead_letters import MANAGE, SEARCH, TYPE, DeadLetter, FindLetters, Kind, Letter, Status
from aidevos.contracts.envelope import JSON, MSGPACK
from aidevos.contracts.times import rfc3339_of
from aidevos.queries import And, Compare, Condition, Find, Search
from aidevos.security.audit import record
from aidevos.security.permissions import Principal
from aidevos.security.sealed import Sealer, SealError
from aidevos.settings import Settings

AT = ("at",)
REPLAY = "replay"
# Refusals that may come before a record of an earlier attempt is looked for, and so say nothing about that one.
EARLY = {"bad-request", "forbidden", "not-found", "invalid"}
# Seconds for which the rights count of whoever replays by a token that no login has made.
RIGHTS_FOR = 60.0
# By time, alone and after each of the filters.
INDEXES = (("at",), ("kind", "at"), ("status", "at"), ("source", "at"))


class Replayer(msgspec.Struct):
    """Whoever replays. What a user, who may have called by an API key, is allowed is asked for when it is
    needed; `roles` and `permissions` are those of anybody else, `until` a moment."""

    id: str
    key: str
    is_user: bool
    roles: list[str]
    permissions: list[str]
    until: float


class Contents(msgspec.Struct):
    """What a replay sends; `sends` counts those whose outcome is known. It is sent for the `replayer`, or,
    where that is None, as the service `sender` with the permissions that it had."""

    subject: str
    payload: bytes
    content_type: str
    sends: int
    sender: str
    permissions: list[str]
    replayer: Replayer | None


class DeadLetterState(msgspec.Struct):
    """`sealed` is the payload, encrypted; `sender` is the service that has buried the letter, with its
    `permissions`; `sends` counts the replays whose outcome is known; `unsure_at` is when the first of those after
    them was asked for, 0 where there was none. Times are in seconds since the epoch."""

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
    sender: str = ""
    permissions: list[str] = []
    replays: int = 0
    sends: int = 0
    unsure_at: float = 0.0
    replayer: Replayer | None = None
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
    return DeadLetter(
        id=id,
        kind=state.kind,
        status=cast(Status, state.status),
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

    settings: Settings = inject()
    sealer: Sealer = inject()
    # A sealed payload is a third longer than an object's outbox may be.
    state_limit = 3 * 1024 * 1024
    searches = (Search(SEARCH, permission(MANAGE) | services(), FindLetters, find, show, INDEXES),)

    @command(allow=services(), creates=True)
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
            sender=self.caller.subject,
            permissions=sorted(self.caller.permissions),
        )

    @query(allow=permission(MANAGE))
    async def read(self) -> DeadLetter:
        """The letter, with what it would be sent with."""
        self._check()
        shown = show(self.id, self.state, self.version)
        if not self.state.confidential:
            shown.args = self._args()
        return shown

    @command(allow=permission(MANAGE))
    async def replay(self) -> DeadLetter:
        """Send what the letter says once more; what comes of it shows in the letter."""
        self._check()
        state = self.state
        if state.status != "dead":
            known = "is being replayed" if state.status == "replaying" else "was replayed"
            raise Failure("conflict", f"the letter {known} already, by {state.replayed_by}")
        if state.from_client and self.caller.is_service:
            raise Failure("forbidden", "what a client has sent is replayed by a user, with the user's rights")
        if state.unsure_at and state.unsure_at + self.settings.tell_age / 2 <= self.now:
            raise Failure("conflict", "it can't be found out any more whether an earlier replay was applied")
        state.status, state.replays = "replaying", state.replays + 1
        state.replayed_by, state.replayed_at = self.caller.subject, self.now
        state.replayer = _replayer(self.caller, self.now) if state.from_client else None
        record(self, "dead_letter.replayed", target=self.id, reason=state.subject)
        self.tell(REPLAY, self.id, "send", number=state.replays)
        return show(self.id, state, self.version + 1)

    @query(allow=services())
    async def contents(self, number: int) -> Contents:
        """What the replay of this number sends; raises `conflict` where it isn't under way."""
        state = self.state
        if state.status != "replaying" or state.replays != number:
            raise Failure("conflict", "this replay is not under way")
        try:
            payload = self._payload()
        except SealError as error:
            raise Failure("conflict", f"what the letter says can't be read: {error}") from None
        return Contents(
            subject=state.subject,
            payload=payload,
            content_type=state.content_type or JSON,
            sends=state.sends,
            sender=state.sender,
            permissions=state.permissions,
            replayer=state.replayer,
        )

    @command(allow=services())
    async def settle(self, number: int, code: str = "", detail: str = "", known: bool = True) -> None:
        """Note what came of a replay: it has succeeded where there is no `code`. It is `known` if a repeat
        of the same request could have no other outcome."""
        state = self.state
        if state.status == "none":
            await self.delete()
        if state.status != "replaying" or state.replays != number:
            return
        state.replayer = None
        if code:
            state.status, state.code, state.detail = "dead", code, detail
            state.attempts += 1
            if not known:
                state.unsure_at = state.unsure_at or state.replayed_at
            elif not state.unsure_at or code not in EARLY:
                state.sends, state.unsure_at = state.sends + 1, 0.0
        else:
            state.status, state.sealed = "replayed", ""

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

    def _args(self) -> Any:
        decode = msgspec.msgpack.decode if self.state.content_type == MSGPACK else msgspec.json.decode
        try:
            return decode(self._payload())
        except (ValueError, RecursionError):
            return None


def _replayer(caller: Principal, now: float) -> Replayer:
    return Replayer(
        id=caller.subject,
        key=caller.key,
        is_user=bool(caller.session or caller.key),
        roles=list(caller.roles),
        permissions=sorted(caller.permissions),
        until=now + RIGHTS_FOR,
    )
