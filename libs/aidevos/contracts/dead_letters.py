"""Dead letters: what couldn't be delivered, kept until somebody has seen to it, and how both doors show it.

A letter names objects and, where a client sent it, the user. Nothing in it is a credential.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects

TYPE = "dead_letter"
# The command that stores a letter; its object's ID is the letter's.
BURY = "bury"
# A search over all letters: `query.dead_letter.search`.
SEARCH = "search"
MANAGE = "dead_letters:manage"

Kind = Literal["event", "tell", "alarm"]
# A letter that is `dead` waits for somebody; what a `replaying` one says is on its way once more.
Status = Literal["dead", "replaying", "replayed"]
Source = Annotated[str, Meta(max_length=200)]
Moment = Annotated[datetime, Meta(tz=True)]


class Letter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What couldn't be delivered. `source` is the object that sent it, as `type:id`, or the user; a replay
    sends `payload` to `subject` again, which is `do.<type>.<id>.<method>`; `code` and `detail` are those of the
    last failure. The payload of a `confidential` one is shown to nobody. One `from_client` came from outside:
    it is replayed with the rights of whoever replays it. `at` is in seconds since the epoch.
    """

    id: str
    kind: Kind
    source: str
    subject: str
    payload: bytes
    code: str
    detail: str
    attempts: int
    at: float
    content_type: str = ""
    confidential: bool = False
    from_client: bool = False


class DeadLetter(msgspec.Struct, kw_only=True):
    """A letter as it is shown. `args` is what it would be sent with, where it is shown alone, and None where
    nobody may see that or it can't be read; `replays` counts those that have begun, `replayed_by` is the user
    of the last one; times are RFC 3339 in UTC."""

    id: str
    kind: Kind
    status: Status
    source: str
    subject: str
    code: str
    detail: str
    attempts: int
    confidential: bool
    from_client: bool
    at: str
    replays: int
    replayed_by: str
    replayed_at: str | None
    version: int
    args: Any = None


class FindLetters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.dead_letter.search`, and the parameters of `GET /dead-letters`; `to` is the
    moment after the last one."""

    limit: int = 50
    cursor: str | None = None
    kind: Kind | None = None
    status: Status | None = None
    source: Source | None = None
    until: Moment | None = msgspec.field(name="to", default=None)
    sort: Literal["at", "-at"] = "-at"


class LetterPage(msgspec.Struct, kw_only=True):
    items: list[DeadLetter]
    next_cursor: str | None = None


def letter_id(*parts: str) -> str:
    """The ID of the letter about what these parts name together, the same each time it is buried."""
    return subjects.hashed_id(TYPE, ":".join(parts))
