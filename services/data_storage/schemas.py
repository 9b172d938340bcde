"""Schemas of documents: JSON Schema 2020-12, by a library, within bounds.

Nothing is ever fetched: a reference leads to somewhere in the schema, or to the standard's own
schemas. Patterns are regular expressions without look-around and back-references, which are matched
in linear time. `format` is an annotation, as the standard has it. A schema whose references multiply
or never end is refused. The library remembers what it has found of a value while it decides whether a
document fits, and not while it looks for what is wrong; so that is only told where it can't take long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jsonschema_rs
import msgspec

from aidevos.contracts.errors import Failure

from .schema_cost import Cost, measure

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SIZE = 64 * 1024
MAX_PATTERNS = 100
# What a compiled pattern may take, in bytes.
PATTERN_SIZE = 1 << 18
MAX_DEPTH = 64
# Evaluations of subschemas that finding what is wrong may take; where alternatives fail, the library
# gathers all that is wrong with each of them.
MAX_TOLD = 2_000_000
MAX_GATHERED = 5000
FIELD = "args.config.schema"


class Validator:
    """A schema, ready to be used. Raises `invalid`, naming the place in the schema, which is called `field`."""

    def __init__(self, schema: Any, field: str = FIELD) -> None:
        _check_size(schema, field)
        try:
            self._cost = Cost(schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                schema,
                offline=True,
                mask="the value",
                validate_formats=False,
                pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_SIZE, dfa_size_limit=PATTERN_SIZE),
            )
        except jsonschema_rs.ValidationError as error:
            raise _invalid(_refusal(error), field + _spell(error.instance_path)) from None
        except ValueError as error:
            raise _invalid(str(error), field) from None
        gathers = any(name in ("anyOf", "oneOf") for name, _ in _members(schema))
        self._told = MAX_GATHERED if gathers else MAX_TOLD

    def check(self, data: Any, field: str) -> None:
        """Raises `invalid` for data, called `field`, that doesn't fit, with the path."""
        if self._validator.is_valid(data):
            return
        count, depth = measure(data)
        if count * self._cost.at(depth) > self._told:
            raise _invalid("the data doesn't fit the collection's schema, and is too large to tell where", field)
        try:
            self._validator.validate(data)
        except jsonschema_rs.ValidationError as error:
            raise _invalid(error.message, field + _spell(error.instance_path)) from None


def _check_size(schema: Any, field: str) -> None:
    if type(schema) not in (dict, bool):
        raise _invalid("a schema is an object or a boolean", field)
    if measure(schema)[1] > MAX_DEPTH:
        raise _invalid(f"a schema nests at most {MAX_DEPTH} levels deep", field)
    if len(msgspec.json.encode(schema)) > MAX_SIZE:
        raise _invalid(f"a schema has at most {MAX_SIZE} bytes", field)
    patterns = 0
    for name, value in _members(schema):
        patterns += isinstance(value, str) if name == "pattern" else 0
        patterns += len(value) if name == "patternProperties" and isinstance(value, dict) else 0
        if name == "$schema" and isinstance(value, str) and value.rstrip("#") != DIALECT:
            raise _invalid(f"schemas are in {DIALECT}", field + ".$schema")
    if patterns > MAX_PATTERNS:
        raise _invalid(f"a schema has at most {MAX_PATTERNS} patterns", field)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every name in a schema, with its value."""
    if isinstance(value, dict):
        yield from value.items()
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _members(item)


def _refusal(error: jsonschema_rs.ValidationError) -> str:
    if error.message.endswith('is not a "regex"'):
        return f"{error.message}: look-around, back-references and huge repetitions are not taken"
    if "retrieving it failed" in error.message:
        return f"a schema refers to nothing outside of it: {error.message}"
    return error.message


def _spell(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _invalid(detail: str, field: str) -> Failure:
    return Failure("invalid", detail, field=field)
