"""Parameters of operations, in the path, the query string and the headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aidevos.contracts import objects, subjects
from aidevos.contracts.envelope import REQUEST_ID_LIMIT

from ..http.headers import BARE_KEY

Json = dict[str, Any]
ID_PATTERN = f"^{subjects.ID_PATTERN}$"
_ENTITY_TAGS = r'^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'


class Parameter(NamedTuple):
    """A parameter, with its JSON Schema."""

    name: str
    description: str
    schema: Json
    place: str = "query"
    required: bool = False

    def described(self) -> Json:
        """The parameter as OpenAPI 3.1 spells it."""
        about = {"description": self.description} if self.description else {}
        required = self.required or self.place == "path"
        return {"name": self.name, "in": self.place, "required": required, "schema": self.schema, **about}


def text(name: str, description: str, pattern: str | None = None, place: str = "query") -> Parameter:
    return Parameter(name, description, {"type": "string"} | ({"pattern": pattern} if pattern else {}), place)


def variable(name: str, description: str, pattern: str | None = None) -> Parameter:
    return text(name, description, pattern, "path")


def one_of(name: str, values: Iterable[str], description: str) -> Parameter:
    return Parameter(name, description, {"type": "string", "enum": list(values)})


def moment(name: str, description: str) -> Parameter:
    return Parameter(name, f"{description}, RFC 3339 with an offset", {"type": "string", "format": "date-time"})


def flag(name: str, description: str) -> Parameter:
    return text(name, description, "^(true|false)$")


_limit = {"type": "integer", "minimum": 1, "maximum": objects.LIST_LIMIT, "default": 50}
PAGE = (
    Parameter("limit", "Entries on a page", _limit),
    text("cursor", "The `next_cursor` of the page before"),
)
_key = f"A repeat with the same key changes nothing; 1 to {REQUEST_ID_LIMIT} characters"
# Headers that operations name, and what many share; components of the document.
SHARED = {
    parameter.name: parameter
    for parameter in (
        *PAGE,
        variable("id", "The ID within the type", ID_PATTERN),
        text("Idempotency-Key", _key, f"^{BARE_KEY}{{1,{REQUEST_ID_LIMIT}}}$", "header"),
        text("If-Match", "The version that is changed, as in `ETag`", _ENTITY_TAGS, "header"),
        text("If-None-Match", "The version that the caller has", _ENTITY_TAGS, "header"),
        Parameter("Deadline", "Milliseconds that the caller waits", {"type": "integer", "minimum": 1}, "header"),
        text("traceparent", "W3C Trace Context", place="header"),
        text("Otp", "A code, instead of the body", "^[0-9]{6}$", "header"),
        text("Last-Event-ID", "The `id` behind which to resume; else from now on", "^[0-9]{1,18}$", "header"),
    )
}
INTERNAL = flag("internal", "True to include the types of the services' own machinery")
PROJECT = text("project", "Only what belongs to this project", ID_PATTERN)
