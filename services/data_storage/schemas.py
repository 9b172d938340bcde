"""Schemas of documents: JSON Schema 2020-12, validated by a library, within bounds.

Nothing is ever fetched: a reference leads to a place in the schema or to the standard's own schemas.
Patterns are regular expressions without look-around and back-references, which match in linear time.
`format` is only an annotation, as in the standard. A schema whose references multiply or never end is
refused. The library memoises while it decides whether a document is valid, but not while it locates an
error. Errors are therefore located only if that can't take long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from aidevos.contracts.errors import DETAIL_LIMIT, FIELD_LIMIT, Failure, FieldError
from aidevos.contracts.field_errors import MAX_ERRORS

from .schema_cost import Cost, measure

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SIZE = 64 * 1024
MAX_PATTERNS = 100
# Bytes of a compiled pattern.
PATTERN_SIZE = 1 << 18
MAX_DEPTH = 64
# Evaluations of subschemas to locate an error. The second limit is for schemas with alternatives, for which
# the library gathers all errors of every alternative.
MAX_EVALUATIONS = 2_000_000
MAX_EVALUATIONS_WITH_ALTERNATIVES = 5000
# Up to this many evaluations, all errors are gathered, of which `MAX_ERRORS` are shown.
MAX_EVALUATIONS_OF_ALL = 1000
FIELD = "args.config.schema"


class Validator:
    """A compiled schema. Raises `invalid`, with the place below `field`, if the schema is not valid."""

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
            raise _invalid(_refusal(error), field + _format_path(error.instance_path)) from None
        except ValueError as error:
            raise _invalid(str(error), field) from None
        has_alternatives = any(name in ("anyOf", "oneOf") for name, _ in _members(schema))
        self._limit = MAX_EVALUATIONS_WITH_ALTERNATIVES if has_alternatives else MAX_EVALUATIONS

    def check(self, data: Any, field: str) -> None:
        """Raise `invalid`, with the path below `field`, if the data breaks the schema."""
        if self._validator.is_valid(data):
            return
        count, depth = measure(data)
        evaluations = count * self._cost.at_depth(depth)
        if evaluations > self._limit:
            detail = "the data doesn't match the collection's schema and is too large to locate the error"
            raise _invalid(detail, field)
        errors = [_describe(error, field) for error in self._find_errors(data, evaluations)]
        raise Failure("invalid", errors[0].detail, field=errors[0].field, errors=errors)

    def _find_errors(self, data: Any, evaluations: int) -> list[jsonschema_rs.ValidationError]:
        """Return the errors of data that break the schema, or only the first one if there may be many."""
        if evaluations <= MAX_EVALUATIONS_OF_ALL:
            return list(islice(self._validator.iter_errors(data), MAX_ERRORS))
        try:
            self._validator.validate(data)
        except jsonschema_rs.ValidationError as error:
            return [error]
        raise AssertionError("the validator contradicts itself")


def _check_size(schema: Any, field: str) -> None:
    if type(schema) not in (dict, bool):
        raise _invalid("a schema must be an object or a boolean", field)
    if measure(schema)[1] > MAX_DEPTH:
        raise _invalid(f"a schema may nest at most {MAX_DEPTH} levels deep", field)
    if len(msgspec.json.encode(schema)) > MAX_SIZE:
        raise _invalid(f"a schema may have at most {MAX_SIZE} bytes", field)
    patterns = 0
    for name, value in _members(schema):
        patterns += isinstance(value, str) if name == "pattern" else 0
        patterns += len(value) if name == "patternProperties" and isinstance(value, dict) else 0
        if name == "$schema" and isinstance(value, str) and value.rstrip("#") != DIALECT:
            raise _invalid(f"the only supported dialect is {DIALECT}", field + ".$schema")
    if patterns > MAX_PATTERNS:
        raise _invalid(f"a schema may have at most {MAX_PATTERNS} patterns", field)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every name in a schema with its value, at all levels."""
    if isinstance(value, dict):
        yield from value.items()
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _members(item)


def _refusal(error: jsonschema_rs.ValidationError) -> str:
    if error.message.endswith('is not a "regex"'):
        return f"{error.message}: look-around, back-references and huge repetitions are not supported"
    if "retrieving it failed" in error.message:
        return f"a schema may not refer to other documents: {error.message}"
    return error.message


def _format_path(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _describe(error: jsonschema_rs.ValidationError, field: str) -> FieldError:
    field += _format_path(error.instance_path)
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        field += f".{error.kind.property}"
    return FieldError(field[:FIELD_LIMIT], error.message[:DETAIL_LIMIT])


def _invalid(detail: str, field: str) -> Failure:
    return Failure("invalid", detail, field=field)
