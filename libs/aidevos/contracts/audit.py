"""The security log as both entry points show it: actor, action, target, time, origin and outcome.

An entry names users, sessions and accounts only by ID. It contains no names, no e-mail addresses and no
secrets.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts.patterns import whole

TYPE = "audit"
# The search over all entries: `query.audit.search`.
SEARCH = "search"
READ_AUDIT = "audit:read"

Outcome = Literal["success", "failure"]
Action = Annotated[str, Meta(pattern=whole(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*"), max_length=64)]
# Long enough for any ID and for `service:<name>`.
Party = Annotated[str, Meta(max_length=160)]
REASON_LIMIT = 200
Reason = Annotated[str, Meta(max_length=REASON_LIMIT)]
Moment = Annotated[datetime, Meta(tz=True)]


class AuditEntry(msgspec.Struct, kw_only=True):
    """One entry.

    `actor` is a user's ID or `service:<name>`, empty if unknown. `target` is the ID that the action
    concerns. `address` is the client's IP address, empty over NATS. `session` is the session that
    acted, began or ended. `at` is RFC 3339 in UTC.
    """

    id: str
    at: str
    actor: str
    action: str
    target: str
    outcome: Outcome
    reason: str
    address: str
    session: str


class FindEntries(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.audit.search`, and the parameters of `GET /audit`.

    An `action` that ends in `*` is a prefix. `from` is inclusive, `to` exclusive.
    """

    limit: int = 50
    cursor: str | None = None
    actor: Party | None = None
    target: Party | None = None
    action: Annotated[str, Meta(pattern=whole(r"[a-z0-9_.]{1,64}\*?"))] | None = None
    outcome: Outcome | None = None
    since: Moment | None = msgspec.field(name="from", default=None)
    until: Moment | None = msgspec.field(name="to", default=None)
    sort: Literal["at", "-at"] = "-at"


class AuditPage(msgspec.Struct, kw_only=True):
    items: list[AuditEntry]
    next_cursor: str | None = None
