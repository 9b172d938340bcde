"""The parameters of operations (path, query string, headers) and the parsers of query strings.

Every parameter in a query string must be known and occur once; otherwise it is refused by name. Errors
never repeat values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.envelope import JSON, QUERY_ONLY, REQUEST_ID_LIMIT
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
OBJECT_NAME_PATTERN = f"^[^/]{{1,{subjects.NAME_LIMIT}}}$"
_ENTITY_TAGS = r'^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'


class Parameter(NamedTuple):
    """A parameter with its JSON Schema; `place` is query, path or header."""

    name: str
    description: str
    schema: Json
    place: str = "query"
    required: bool = False
    # True if the value is encoded as JSON.
    is_json: bool = False

    def describe(self) -> Json:
        """Return the parameter object of OpenAPI 3.1."""
        about = {"description": self.description} if self.description else {}
        required = self.required or self.place == "path"
        value: Json = {"schema": self.schema}
        if self.is_json:
            value = {"content": {JSON: value}}
        return {"name": self.name, "in": self.place, "required": required, **value, **about}


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
    Parameter("limit", "The number of entries on a page", _limit),
    text("cursor", "The `next_cursor` of the previous page"),
)
_key = f"A request repeated with the same key has no further effect; 1 to {REQUEST_ID_LIMIT} characters"
_deadline = "Milliseconds that the caller waits; of 0 or less, the deadline has passed, and the answer is 408"
# Headers, and parameters that many operations share: components of the document.
SHARED = {
    parameter.name: parameter
    for parameter in (
        *PAGE,
        variable("id", "The ID within the type, or any name that has no slash", OBJECT_NAME_PATTERN),
        text("Idempotency-Key", _key, f"^{BARE_KEY}{{1,{REQUEST_ID_LIMIT}}}$", "header"),
        text("If-Match", "The version to change, as in `ETag`", _ENTITY_TAGS, "header"),
        text("If-None-Match", "The version that the caller already has", _ENTITY_TAGS, "header"),
        Parameter("Deadline", _deadline, {"type": "integer"}, "header"),
        text(QUERY_ONLY, "Any value: a command is refused with 409 `query-only`", place="header"),
        text("traceparent", "W3C Trace Context", place="header"),
        text("Otp", "A one-time code, instead of the body", "^[0-9]{6}$", "header"),
        text(
            "Last-Event-ID",
            "The `id` after which to resume; by default the stream starts now",
            "^[0-9]{1,18}$",
            "header",
        ),
    )
}
INTERNAL = switch("internal", "Set to `true` to include the types that the services use internally")
PROJECT = text("project", "Only objects that belong to this project", ID_PATTERN)


def parse(query: bytes, known: frozenset[str] | None) -> dict[str, str]:
    """Return the parameters of a query string; only those in `known` are allowed, or any if it is None."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_LIMIT
        )
    except ValueError:
        raise Failure("invalid", "the query string is malformed", field="query") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if known is not None and name not in known:
            raise Failure("invalid", "this path doesn't have this query parameter", field=name[:NAME_LIMIT])
        if name in values:
            raise Failure("invalid", "the query parameter occurs twice", field=name)
        values[name] = value
    return values


def encode_page(values: dict[str, str]) -> bytes:
    """Return a list's parameters as a method's arguments in JSON, always with a limit."""
    return msgspec.json.encode({**values, "limit": parse_limit(values)})


def parse_limit(values: dict[str, str]) -> int:
    """Return the parameter `limit`, or its default."""
    text = values.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not _digits(text) or not 1 <= int(text) <= LIST_LIMIT:
        raise Failure("invalid", f"the limit must be an integer from 1 to {LIST_LIMIT}", field="limit")
    return int(text)


def parse_integer(values: dict[str, str], name: str) -> int | None:
    """Return a parameter that is an integer of at least 0, or None if it is missing."""
    text = values.get(name)
    if text is not None and not _digits(text):
        raise Failure("invalid", "this must be an integer of at least 0", field=name)
    return None if text is None else int(text)


def check_id(values: dict[str, str], name: str) -> None:
    """Raise `invalid` for a parameter that isn't an ID; it may be missing."""
    if name in values and not subjects.is_id(values[name]):
        raise Failure("invalid", f"an ID must match {subjects.ID_PATTERN}", field=name)


def parse_flag(values: dict[str, str], name: str) -> bool:
    """Return a parameter that is true or false; False if it is missing."""
    text = values.get(name, "false")
    if text not in ("true", "false"):
        raise Failure("invalid", "this must be true or false", field=name)
    return text == "true"


def parse_json_object(values: dict[str, str], name: str, what: str) -> dict[str, msgspec.Raw]:
    """Return the fields of a parameter that is a JSON object."""
    try:
        return _object.decode(values[name])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Failure("invalid", f"{what} must be a JSON object", field=name) from None
