"""An upper bound of the cost of validation by a schema, known before any document is validated.

The costs of subschemas that apply to the same value add up. If such subschemas refer to each other again
for the values below, the costs multiply: two alternatives that both refer to the whole schema double the
work with every level of a document. The bound is for one path from the root of a document to a leaf. A
document therefore costs at most the bound times the number of its nodes, even without memoisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote, urldefrag, urljoin

Schema: TypeAlias = dict[str, Any] | bool
MAX_SUBSCHEMAS = 1000
MAX_APPLIED = 10_000
# The cost per level of validating by the standard's own schemas, which the library knows.
STANDARD_COST = 100
LISTS_IN_PLACE = ("allOf", "anyOf", "oneOf")
IN_PLACE = ("not", "if", "then", "else")
REFERENCES = ("$ref", "$dynamicRef")
OTHER_MEMBERS = ("additionalProperties", "unevaluatedProperties", "propertyNames")
OTHER_ITEMS = ("items", "unevaluatedItems", "contains")


class EndlessSchema(ValueError):
    """Raised for a schema that applies itself to the same value again."""


class Cost:
    """The cost of a schema, which may be any JSON value.

    Raises `ValueError` for a schema that has too many subschemas or applies too many to one value, and
    `EndlessSchema` for one that never ends.
    """

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._bases: dict[int, str] = {}
        self._places: dict[str, Any] = {}
        self._dynamic: dict[str, list[Any]] = {}
        self._levels: list[dict[int, int]] = []
        self._collect(schema, "")
        if self.at_depth(0) > MAX_APPLIED:
            raise ValueError(f"alternatives and references apply more than {MAX_APPLIED} subschemas to one value")

    def at_depth(self, depth: int) -> int:
        """Return the most subschemas evaluated on one path from the root of a document down `depth` levels."""
        while len(self._levels) <= depth:
            self._levels.append({})
            try:
                self._cost_of(self._root, len(self._levels) - 1)
            except RecursionError:
                raise ValueError("the chain of references in the schema is too long") from None
        return self._cost_of(self._root, depth)

    def _collect(self, value: Any, base: str) -> None:
        """Record the base URI of each map, and the targets of references by URI."""
        if isinstance(value, list):
            for item in value:
                self._collect(item, base)
        if not isinstance(value, dict):
            return
        id = value.get("$id")
        if isinstance(id, str):
            base = urldefrag(urljoin(base, id)).url
        if isinstance(id, str) or value is self._root:
            self._places.setdefault(base, value)
        self._bases[_key(value)] = base
        if len(self._bases) > MAX_SUBSCHEMAS:
            raise ValueError(f"a schema may contain at most {MAX_SUBSCHEMAS} maps")
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(value.get(keyword), str):
                self._places.setdefault(f"{base}#{value[keyword]}", value)
        if isinstance(value.get("$dynamicAnchor"), str):
            self._dynamic.setdefault(value["$dynamicAnchor"], []).append(value)
        for item in value.values():
            self._collect(item, base)

    def _cost_of(self, schema: Schema, depth: int) -> int:
        if not isinstance(schema, dict):
            return 1
        level, key = self._levels[depth], _key(schema)
        cost = level.get(key)
        if cost is None:
            level[key] = -1
            cost = 1 + self._cost_in_place(schema, depth) + (self._cost_below(schema, depth - 1) if depth else 0)
            level[key] = cost
        if cost < 0:
            raise EndlessSchema("the schema refers to itself for the same value")
        return cost

    def _cost_in_place(self, schema: dict[str, Any], depth: int) -> int:
        cost = sum(self._cost_of(inner, depth) for inner in _subschemas_in_place(schema))
        for keyword in REFERENCES:
            if isinstance(schema.get(keyword), str):
                cost += self._cost_of_reference(schema, schema[keyword], depth)
        # The library evaluates the other subschemas once more to find what is unevaluated.
        return cost * 2 if "unevaluatedProperties" in schema or "unevaluatedItems" in schema else cost

    def _cost_of_reference(self, schema: dict[str, Any], reference: str, depth: int) -> int:
        uri = urljoin(self._bases.get(_key(schema), ""), reference)
        targets = [self._resolve(uri), *self._dynamic.get(uri.rpartition("#")[2], ())]
        distinct = {_key(target): target for target in targets if isinstance(target, dict | bool)}
        if not distinct:
            return STANDARD_COST * (depth + 1)
        return sum(self._cost_of(target, depth) for target in distinct.values())

    def _resolve(self, uri: str) -> Any:
        """Return the part of the schema to which a URI refers, or None."""
        resource, fragment = urldefrag(uri)
        if not fragment.startswith("/"):
            return self._places.get(f"{resource}#{fragment}" if fragment else resource)
        found = self._places.get(resource)
        for token in unquote(fragment)[1:].split("/"):
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            else:
                found = found[int(name)] if isinstance(found, list) and name.isdecimal() else None
        return found

    def _cost_below(self, schema: dict[str, Any], depth: int) -> int:
        """Return the cost of the most expensive member or item, to which every possible subschema applies."""
        members = [schema.get(keyword) for keyword in OTHER_MEMBERS] + [*_map(schema, "patternProperties").values()]
        items = [schema.get(keyword) for keyword in OTHER_ITEMS]
        named = [*_map(schema, "properties").values()]
        placed = schema.get("prefixItems")
        return max(
            self._most(named, depth) + self._sum(members, depth),
            self._most(placed if isinstance(placed, list) else [], depth) + self._sum(items, depth),
        )

    def _most(self, schemas: list[Any], depth: int) -> int:
        return max((self._cost_of(inner, depth) for inner in schemas), default=0)

    def _sum(self, schemas: list[Any], depth: int) -> int:
        return sum(self._cost_of(inner, depth) for inner in schemas if inner is not None)


def measure(value: Any) -> tuple[int, int]:
    """Return the number of values in a value, including itself, and the depth to which they nest."""
    level, count, depth = [value], 0, -1
    while level:
        count, depth = count + len(level), depth + 1
        level = [item for found in level for item in _items(found)]
    return count, depth


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _subschemas_in_place(schema: dict[str, Any]) -> Iterator[Any]:
    for keyword in LISTS_IN_PLACE:
        if isinstance(schema.get(keyword), list):
            yield from schema[keyword]
    for keyword in IN_PLACE:
        if keyword in schema:
            yield schema[keyword]
    yield from _map(schema, "dependentSchemas").values()


def _map(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    found = schema.get(keyword)
    return found if isinstance(found, dict) else {}


def _key(value: Any) -> int:
    return id(value)
