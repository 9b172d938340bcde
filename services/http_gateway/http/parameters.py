"""Query parameters: each known, each once, or refused by its name; values are never shown again."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT

PARAMETERS_LIMIT = 16
NAME_LIMIT = 100
DEFAULT_LIMIT = 50
_digits = re.compile(r"[0-9]{1,9}").fullmatch


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
