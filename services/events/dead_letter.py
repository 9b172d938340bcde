"""A dead letter: an undeliverable message, kept until it is replayed, deleted or too old.

Promises: burying a letter again changes nothing. Its payload is encrypted at rest and appears in no
list; if the method's arguments are confidential, it is never shown. Only one replay is in progress at a
time, and none follows a successful one; after a failed one, the letter shows the new failure. A letter
is applied at most once, whoever replays it. After a replay with an unknown outcome, further replays use
its request ID until one gets the recorded outcome, or until the record may be gone.
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
# Refusals that may precede the look-up of an earlier attempt's record, and so reveal nothing about that attempt.
EARLY = {"bad-request", "forbidden", "not-found", "invalid"}
# Seconds for which the permissions of a token that doesn't come from a login are used for a replay.
RIGHTS_FOR = 60.0
# By time, alone and together with each filter.
INDEXES = (("at",), ("kind", "at"), ("status", "at"), ("source", "at"))


class Replayer(msgspec.Struct):
    """The caller of a replay.

    A user's permissions, possibly through an API key, are looked up when they are needed. `roles` and
    `permissions` are those of any other caller, valid `until` a time in seconds since the epoch.
    """

    id: str
    key: str
    is_user: bool
    roles: list[str]
    permissions: list[str]
    until: float


class Contents(msgspec.Struct):
    """The request that a replay sends; `sends` counts the replays with a known outcome.

    It is sent for the `replayer` or, if that is None, as the service `sender` with the permissions that
    it had.
    """

    subject: str
    payload: bytes
    content_type: str
    sends: int
    sender: str
    permissions: list[str]
    replayer: Replayer | None


class DeadLetterState(msgspec.Struct):
    """The stored state; times are in seconds since the epoch.

    `sealed` is the encrypted payload. `sender` is the service that buried the letter, with its
    `permissions`. `sends` counts the replays with a known outcome. `unsure_at` is the time of the first
    replay after them, or 0.
    """

    status: Literal["none", "dead", "replaying", "replayed"] = "none"
    kind: Kind = "tell"
    source: str = ""
    subject: str = ""
    sealed: str = ""
    content_type: str = ""
    confidential: bool = False
    from_client: bool = False
    message_kept: bool = True
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
    """Return the store's query for a search."""
    where: list[Condition] = [
        Compare((name,), "eq", value)
        for name, value in {"kind": args.kind, "status": args.status, "source": args.source}.items()
        if value is not None
    ]
    if args.until is not None:
        where.append(Compare(AT, "lt", args.until.timestamp()))
    return Find(And(tuple(where)), args.limit, AT, descending=args.sort == "-at")


def show(id: str, state: DeadLetterState, version: int) -> DeadLetter:
    """Return the letter's representation in a list."""
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
        message_kept=state.message_kept,
        at=rfc3339_of(state.at),
        replays=state.replays,
        replayed_by=state.replayed_by,
        replayed_at=rfc3339_of(state.replayed_at) if state.replays else None,
        version=version,
    )


class DeadLetterDO(BaseDurableObject[DeadLetterState], type=TYPE, management="read_only"):
    """A message that couldn't be delivered."""

    settings: Settings = inject()
    sealer: Sealer = inject()
    # A sealed payload is a third longer than the largest outbox of an object.
    state_limit = 3 * 1024 * 1024
    searches = (Search(SEARCH, permission(MANAGE) | services(), FindLetters, find, show, INDEXES),)

    @command(allow=services(), creates=True)
    async def bury(self, letter: Letter) -> None:
        """Store this letter; do nothing if it is already stored."""
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
            message_kept=letter.message_kept,
            code=letter.code,
            detail=letter.detail,
            attempts=letter.attempts,
            at=letter.at,
            sender=self.caller.subject,
            permissions=sorted(self.caller.permissions),
        )

    @query(allow=permission(MANAGE))
    async def read(self) -> DeadLetter:
        """Return the letter with its arguments."""
        self._check()
        shown = show(self.id, self.state, self.version)
        if self.state.message_kept and not self.state.confidential:
            shown.args = self._args()
        return shown

    @command(allow=permission(MANAGE))
    async def replay(self) -> DeadLetter:
        """Send the message again; the outcome appears in the letter."""
        self._check()
        state = self.state
        if state.status != "dead":
            known = "is already being replayed" if state.status == "replaying" else "was already replayed"
            raise Failure("conflict", f"the letter {known}, by {state.replayed_by}")
        if not state.message_kept:
            raise Failure("conflict", "the message was not kept, because its sender had no valid credential")
        if state.from_client and self.caller.is_service:
            raise Failure("forbidden", "only a user can replay a client's message, with the user's own permissions")
        if state.unsure_at and state.unsure_at + self.settings.tell_age / 2 <= self.now:
            raise Failure("conflict", "it can no longer be found out whether an earlier replay was applied")
        state.status, state.replays = "replaying", state.replays + 1
        state.replayed_by, state.replayed_at = self.caller.subject, self.now
        state.replayer = _replayer(self.caller, self.now) if state.from_client else None
        record(self, "dead_letter.replayed", target=self.id, reason=state.subject)
        self.tell(REPLAY, self.id, "send", number=state.replays)
        return show(self.id, state, self.version + 1)

    @query(allow=services())
    async def contents(self, number: int) -> Contents:
        """Return the request of the replay with this number. Raises `conflict` if it isn't in progress."""
        state = self.state
        if state.status != "replaying" or state.replays != number:
            raise Failure("conflict", "this replay isn't in progress")
        try:
            payload = self._payload()
        except SealError as error:
            raise Failure("conflict", f"the letter's payload can't be read: {error}") from None
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
        """Record the outcome of a replay, which succeeded if `code` is empty.

        It is `known` if a repeat of the same request could have no other outcome.
        """
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
        """Delete the letter and its message."""
        self._check()
        record(self, "dead_letter.deleted", target=self.id, reason=self.state.subject)
        await self.delete()

    @command(allow=services())
    async def expire(self) -> None:
        """Delete the letter if it is older than `letter_age`."""
        if self.state.at + self.settings.letter_age <= self.now:
            await self.delete()

    def _check(self) -> None:
        if self.state.status == "none":
            raise Failure("not-found", "this letter doesn't exist")

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
