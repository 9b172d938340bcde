"""All errors of a value that its type has refused.

msgspec stops at the first error. This search begins only after that, so a valid value costs nothing. It is bounded in
the size of the value, in its nesting, in the entries of each list or map, and in the number of errors.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from aidevos.contracts.errors import FIELD_LIMIT, Failure, FieldError

MAX_ERRORS = 20
# Of a larger value, in bytes of JSON, only the first error is reported.
MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_ENTRIES = 200
_location = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?", re.DOTALL).fullmatch
_named = re.compile(r"Object (?:contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL).fullmatch


def locate(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return what msgspec says is wrong, and the path of the refused value, such as `.items[0].price`.

    The path of a missing or unknown field includes its name.
    """
    found = _location(str(error))
    what, path = (found["what"], found["path"] or "") if found else (str(error), "")
    named = _named(what)
    return what, f"{path}.{named['name']}" if named else path


def add_errors(first: Failure, type: Any, read: Callable[[], Any], field: str = "", *, closed: bool = False) -> Failure:
    """Return `first`, by which a value was refused, with all errors of the value that `read` returns.

    `field` is the name of the value. With `closed`, unknown fields are errors in every struct.
    """
    found: list[FieldError] = []
    # The value may also be no JSON, or nested too deeply, after the place at which it was refused.
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        value = read()
        if len(msgspec.json.encode(value)) <= MAX_BYTES:
            found = [_shown(error) for error in islice(_find(type, value, field, closed, 0), MAX_ERRORS)]
    if all(error.field != first.field for error in found):
        found.insert(0, FieldError(first.field or "body", first.detail))
    first.errors = found[:MAX_ERRORS]
    return first


def _shown(error: FieldError) -> FieldError:
    return FieldError(error.field.removeprefix(".")[:FIELD_LIMIT] or "body", error.detail)


def _find(type: Any, value: Any, field: str, closed: bool, depth: int) -> Iterator[FieldError]:
    refusal = _refuse(type, value, field)
    if refusal is None and not closed:
        return
    below = (
        list(islice(_find_below(_plain(type), value, field, closed, depth + 1), MAX_ERRORS))
        if depth < MAX_DEPTH
        else []
    )
    yield from below or filter(None, [refusal])


def _find_below(type: Any, value: Any, field: str, closed: bool, depth: int) -> Iterator[FieldError]:
    inner = get_args(type)
    if isinstance(value, dict) and _is_struct(type):
        yield from _find_in_struct(type, value, field, closed, depth)
    elif isinstance(value, dict) and len(inner) == 2:
        yield from _find_in(inner[1], ((f"{field}.{key}", item) for key, item in value.items()), closed, depth)
    elif isinstance(value, list) and inner and inner[1:] in ((), (...,)):
        yield from _find_in(inner[0], ((f"{field}[{at}]", item) for at, item in enumerate(value)), closed, depth)


def _find_in(type: Any, entries: Iterable[tuple[str, Any]], closed: bool, depth: int) -> Iterator[FieldError]:
    for field, item in islice(entries, MAX_ENTRIES):
        yield from _find(type, item, field, closed, depth)


def _find_in_struct(type: Any, value: dict[str, Any], field: str, closed: bool, depth: int) -> Iterator[FieldError]:
    known = {each.encode_name: each for each in msgspec.structs.fields(type)}
    for name, each in known.items():
        if name in value:
            yield from _find(each.type, value[name], f"{field}.{name}", closed, depth)
        elif each.required:
            yield FieldError(f"{field}.{name}", f"Object missing required field `{name}`")
    config = (get_origin(type) or type).__struct_config__
    if closed or config.forbid_unknown_fields:
        unknown = (name for name in value if name not in known and name != config.tag_field)
        for name in islice(unknown, MAX_ENTRIES):
            yield FieldError(f"{field}.{name}", f"Object contains unknown field `{name}`")


def _refuse(type: Any, value: Any, field: str) -> FieldError | None:
    """Return the first error of a value, or None if its type accepts it."""
    try:
        # Conversion would judge some types, such as `Raw`, otherwise than decoding.
        msgspec.json.decode(msgspec.json.encode(value), type=type)
    except msgspec.ValidationError as error:
        what, path = locate(error)
        return FieldError(field + path, what)
    return None


def _is_struct(type: Any) -> bool:
    found = get_origin(type) or type
    return (
        isinstance(found, builtins.type)
        and issubclass(found, msgspec.Struct)
        and not found.__struct_config__.array_like
    )


def _plain(type: Any) -> Any:
    """Return the type without its annotations, and the only member of a union besides None."""
    while get_origin(type) is Annotated:
        type = get_args(type)[0]
    if get_origin(type) not in (Union, UnionType):
        return type
    members = [each for each in get_args(type) if each is not NoneType]
    return _plain(members[0]) if len(members) == 1 else type
