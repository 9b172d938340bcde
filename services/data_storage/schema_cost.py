"""What validation by a schema can cost, told before anything is validated.

Subschemas that apply to the same value add up, and where they lead to each other again below it,
they multiply: two alternatives that both refer to the whole double the work with every level of a
document. The bound here is for one way from the root of a document to a leaf; so a document takes
at most that much for each of its nodes, where nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote, urldefrag, urljoin

Schema: TypeAlias = dict[str, Any] | bool
MAX_SUBSCHEMAS = 1000
MAX_APPLIED = 10_000
# Of a level of a value that is a schema itself: the standard's own schemas are known to the library.
STANDARD = 100
LISTS_IN_PLACE = ("allOf", "anyOf", "oneOf")
IN_PLACE = ("not", "if", "then", "else")
REFERENCES = ("$ref", "$dynamicRef")
OTHER_MEMBERS = ("additionalProperties", "unevaluatedProperties", "propertyNames")
OTHER_ITEMS = ("items", "unevaluatedItems", "contains")


class Endless(ValueError):
    """A schema applies itself to the same value again."""


class Cost:
    """The schema may be any JSON. Raises `ValueError` for one that has too many subschemas, applies too
    many to one value, or is `Endless`."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._bases: dict[int, str] = {}
        self._places: dict[str, Any] = {}
        self._dynamic: dict[str, list[Any]] = {}
        self._levels: list[dict[int, int]] = []
        self._collect(schema, "")
        if self.at(0) > MAX_APPLIED:
            raise ValueError(f"alternatives and references apply more than {MAX_APPLIED} subschemas to one value")

    def at(self, depth: int) -> int:
        """How many subschemas are evaluated at most, on one way from the root down this many levels; none
        are below a scalar."""
        while len(self._levels) <= depth:
            self._levels.append({})
            try:
                self._of(self._root, len(self._levels) - 1)
            except RecursionError:
                raise ValueError("the references of the schema lead too far") from None
        return self._of(self._root, depth)

    def _collect(self, value: Any, base: str) -> None:
        """Note the base URI of each map, and what can be referred to by URI."""
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
            raise ValueError(f"a schema has at most {MAX_SUBSCHEMAS} maps in it")
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(value.get(keyword), str):
                self._places.setdefault(f"{base}#{value[keyword]}", value)
        if isinstance(value.get("$dynamicAnchor"), str):
            self._dynamic.setdefault(value["$dynamicAnchor"], []).append(value)
        for item in value.values():
            self._collect(item, base)

    def _of(self, schema: Schema, depth: int) -> int:
        if not isinstance(schema, dict):
            return 1
        level, key = self._levels[depth], _key(schema)
        known = level.get(key)
        if known is None:
            level[key] = -1
            known = level[key] = 1 + self._in_place(schema, depth) + (self._below(schema, depth - 1) if depth else 0)
        if known < 0:
            raise Endless("the schema refers to itself for the same value")
        return known

    def _in_place(self, schema: dict[str, Any], depth: int) -> int:
        cost = sum(self._of(inner, depth) for inner in _in_place(schema))
        for keyword in REFERENCES:
            if isinstance(schema.get(keyword), str):
                cost += self._of_reference(schema, schema[keyword], depth)
        # What is unevaluated is found by looking at the others once more.
        return cost * 2 if "unevaluatedProperties" in schema or "unevaluatedItems" in schema else cost

    def _of_reference(self, schema: dict[str, Any], reference: str, depth: int) -> int:
        uri = urljoin(self._bases.get(_key(schema), ""), reference)
        targets = [self._resolve(uri), *self._dynamic.get(uri.rpartition("#")[2], ())]
        distinct = {_key(target): target for target in targets if isinstance(target, dict | bool)}
        if not distinct:
            return STANDARD * (depth + 1)
        return sum(self._of(target, depth) for target in distinct.values())

    def _resolve(self, uri: str) -> Any:
        """What a URI refers to in the schema, or None."""
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

    def _below(self, schema: dict[str, Any], depth: int) -> int:
        """The cost for the value below that takes most; each is met by those subschemas that may apply."""
        members = [schema.get(keyword) for keyword in OTHER_MEMBERS] + [*_map(schema, "patternProperties").values()]
        items = [schema.get(keyword) for keyword in OTHER_ITEMS]
        named = [*_map(schema, "properties").values()]
        placed = schema.get("prefixItems")
        return max(
            self._most(named, depth) + self._sum(members, depth),
            self._most(placed if isinstance(placed, list) else [], depth) + self._sum(items, depth),
        )

    def _most(self, schemas: list[Any], depth: int) -> int:
        return max((self._of(inner, depth) for inner in schemas), default=0)

    def _sum(self, schemas: list[Any], depth: int) -> int:
        return sum(self._of(inner, depth) for inner in schemas if inner is not None)


def measure(value: Any) -> tuple[int, int]:
    """How many values there are in a value, itself among them, and how deep they nest."""
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


def _in_place(schema: dict[str, Any]) -> Iterator[Any]:
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
