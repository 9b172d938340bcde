"""Dead letters as both entry points show them: undeliverable messages, kept until an administrator handles them.

A letter names objects and, for a client's message, the user. It never contains a credential.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects

TYPE = "dead_letter"
# The command that stores a letter; the object has the letter's ID.
BURY = "bury"
# The search over all letters: `query.dead_letter.search`.
SEARCH = "search"
MANAGE = "dead_letters:manage"

Kind = Literal["event", "tell", "alarm"]
# A `dead` letter waits for an administrator; the message of a `replaying` one is being sent again.
Status = Literal["dead", "replaying", "replayed"]
Source = Annotated[str, Meta(max_length=200)]
Moment = Annotated[datetime, Meta(tz=True)]


class Letter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An undeliverable message.

    `source` is the object that sent it, as `type:id`, or the user. A replay sends `payload` to
    `subject` again, which is `do.<type>.<id>.<method>`. `code` and `detail` describe the last failure.
    The payload of a `confidential` letter is never shown. A letter `from_client` is replayed with the
    permissions of the caller who replays it. If `message_kept` is False, the payload is empty and can't be
    replayed. `at` is in seconds since the epoch.
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
    message_kept: bool = True


class DeadLetter(msgspec.Struct, kw_only=True):
    """A letter as it is shown.

    `args` is the message's payload, only when a single letter is shown; None if it is confidential or
    unreadable, or if `message_kept` is False, because the sender had no valid credential. `replays` counts
    the replays that were begun, and `replayed_by` is the user of the last one. Times are RFC 3339 in UTC.
    """

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
    message_kept: bool
    at: str
    replays: int
    replayed_by: str
    replayed_at: str | None
    version: int
    args: Any = None


class FindLetters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.dead_letter.search`, and the parameters of `GET /dead-letters`.

    `to` is exclusive.
    """

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
    """Return the ID of the letter about a message that these parts identify; it is the same every time."""
    return subjects.hashed_id(TYPE, ":".join(parts))
