"""Parameters of operations, in the path, the query string and the headers, and how query strings are read.

Each parameter of a query string is known and given once, or refused by its name; values are never shown again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.envelope import REQUEST_ID_LIMIT
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT

from .headers import BARE_KEY

PARAMETERS_LIMIT = 16
NAME_LIMIT = 100
DEFAULT_LIMIT = 50
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_digits = re.compile(r"[0-9]{1,9}").fullmatch

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


def switch(name: str, description: str) -> Parameter:
    return text(name, description, "^(true|false)$")


_limit = {"type": "integer", "minimum": 1, "maximum": LIST_LIMIT, "default": DEFAULT_LIMIT}
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
INTERNAL = switch("internal", "True to include the types of the services' own machinery")
PROJECT = text("project", "Only what belongs to this project", ID_PATTERN)


def parse(query: bytes, known: frozenset[str]) -> dict[str, str]:
    """The parameters of a query string."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_LIMIT
        )
    except ValueError:
        raise Failure("invalid", "the query string can't be read", field="query") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise Failure("invalid", "this path has no such query parameter", field=name[:NAME_LIMIT])
        if name in values:
            raise Failure("invalid", "the query parameter is given twice", field=name)
        values[name] = value
    return values


def page(values: dict[str, str]) -> bytes:
    """The parameters of a list as a method's arguments, in JSON, with a limit among them."""
    return msgspec.json.encode({**values, "limit": limit(values)})


def limit(values: dict[str, str]) -> int:
    """The parameter `limit`."""
    text = values.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not _digits(text) or not 1 <= int(text) <= LIST_LIMIT:
        raise Failure("invalid", f"the limit is an integer from 1 to {LIST_LIMIT}", field="limit")
    return int(text)


def integer(values: dict[str, str], name: str) -> int | None:
    """A parameter that is a number from 0 on, if it is given."""
    text = values.get(name)
    if text is not None and not _digits(text):
        raise Failure("invalid", "it is an integer from 0 on", field=name)
    return None if text is None else int(text)


def flag(values: dict[str, str], name: str) -> bool:
    """A parameter that is true or false."""
    text = values.get(name, "false")
    if text not in ("true", "false"):
        raise Failure("invalid", "it is true or false", field=name)
    return text == "true"


def json_object(values: dict[str, str], name: str, what: str) -> dict[str, msgspec.Raw]:
    """A parameter that is a JSON object."""
    try:
        return _object.decode(values[name])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Failure("invalid", f"{what} is a JSON object", field=name) from None
