"""The records of the tokens that `aidevos token` prints, as both entry points show them.

A record has the token's ID (`jti`). It holds what the token allows, never the token.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TYPE = "access_token"
# The search over all records: `query.access_token.search`.
SEARCH = "search"
MANAGE = "tokens:manage"
# The event that every verifier of tokens subscribes to.
REVOKED = f"event.{TYPE}.*.revoked"

Subject = Annotated[str, Meta(min_length=1, max_length=160)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Names = Annotated[list[Name], Meta(max_length=200)]
Moment = Annotated[datetime, Meta(tz=True)]


class AccessToken(msgspec.Struct, kw_only=True):
    """A token of `aidevos token`, without its text. Times are RFC 3339 in UTC."""

    id: str
    subject: str
    roles: list[str]
    permissions: list[str]
    created_at: str
    expires_at: str


class TokenGrant(msgspec.Struct, kw_only=True):
    """The roles of a token now. If its subject is a user, they are those at the user's `version`."""

    roles: list[str]
    version: int | None = None


class FindTokens(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.access_token.search`, and the parameters of `GET /access-tokens`.

    Tokens are sorted by the time at which they expire, which is before `to`.
    """

    limit: int = 50
    cursor: str | None = None
    until: Moment | None = msgspec.field(name="to", default=None)
    sort: Literal["at", "-at"] = "-at"


class TokenPage(msgspec.Struct, kw_only=True):
    items: list[AccessToken]
    next_cursor: str | None = None
