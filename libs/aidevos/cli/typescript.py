"""`aidevos types --typescript`: the types of a fleet's object types, collections and events, for its client.

They follow from the fleet's own documents and the schemas of its collections, so no Node.js is needed. The types of the
product's services and methods for services are left out. A field with a default may be left out of arguments. In
results it is present, as in all structs but those with `omit_defaults`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aidevos.cli.remote import PAGE
from aidevos.client.api import HttpApi
from aidevos.client.errors import Forbidden, NotFound
from aidevos.contracts import placement_events
from aidevos.contracts.built_in import BUILT_IN

Json = dict[str, Any]
COMPONENTS = "#/components/schemas/"
COLLECTIONS = "/data/collections"
HEAD = "// The types of the fleet at {url}: written by `aidevos types --typescript`.\n"
PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_is_word = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*").fullmatch
_args = re.compile(r"([a-z0-9_]+)\.([a-z0-9_]+)\.args").fullmatch
INTERNAL = "allowed: services only."
EXAMPLES = "objects"


def render(openapi: Json, asyncapi: Json, collections: Mapping[str, Any], url: str) -> str:
    """Return a TypeScript module that exports `Fleet` and the types that it consists of.

    `openapi` and `asyncapi` are the fleet's documents, and `collections` the JSON Schemas of collections by name, None
    for one without a schema.
    """
    schemas: Json = {**openapi["components"]["schemas"], **asyncapi["components"]["schemas"]}
    data = {name: _add_schema(schemas, name, schema) for name, schema in collections.items()}
    types = _Types(schemas)
    tags = {tag["name"]: tag.get("description", "") for tag in openapi["tags"]}
    parts = {
        "objects": list(_objects(openapi["components"]["schemas"], types, tags)),
        "collections": [f"{_key(name)}: {types.show(schema)};" for name, schema in sorted(data.items())],
        "events": list(_events(asyncapi, types)),
    }
    lines = [f"{name}: {{\n{_indent(content)}}};" for name, content in parts.items()]
    fleet = f"export interface Fleet {{\n{_indent(lines)}}}\n"
    return "\n".join([HEAD.format(url=url), fleet, *types.declarations()])


async def fetch(api: HttpApi) -> str:
    """Return the module for the fleet behind `api`: with the collections that the caller may see. Raises `ApiError`."""
    openapi = await api.call("GET", "/openapi.json", anonymous=True)
    asyncapi = await api.call("GET", "/asyncapi.json", anonymous=True)
    names = [entry["name"] async for entry in api.items(COLLECTIONS, params={"limit": PAGE})]
    return render(openapi, asyncapi, {name: await _schema(api, name) for name in names}, api.url)


async def _schema(api: HttpApi, collection: str) -> Any:
    """Return a collection's schema, or None if it has none or the caller may not see it."""
    try:
        return (await api.call("GET", f"{COLLECTIONS}/{collection}/config"))["schema"]
    except (Forbidden, NotFound):
        return None


def _objects(schemas: Json, types: _Types, tags: Mapping[str, str]) -> Iterator[str]:
    methods: dict[str, list[str]] = {}
    for type, method in (found.groups() for found in map(_args, sorted(schemas)) if found):
        name = f"{type}.{method}"
        about = schemas[f"{name}.request"].get("description", "")
        if _is_own(type) and not about.endswith(INTERNAL):
            args, result = types.show_args(schemas[f"{name}.args"]), types.show(schemas[f"{name}.result"])
            methods.setdefault(type, []).append(f"{_comment(about)}{method}: {{ args: {args}; result: {result} }};")
    for type, shown in methods.items():
        yield f"{_comment(tags.get(type, ''))}{type}: {{\n{_indent(shown)}}};"


def _events(asyncapi: Json, types: _Types) -> Iterator[str]:
    for key, channel in sorted(asyncapi["channels"].items()):
        for message in channel["messages"].values():
            own = message.get("payload", {}).get("allOf", [{}])[-1].get("properties", {})
            if "data" in own and _is_own(key.split(".")[1]):
                about = _comment(channel.get("description", ""))
                yield f"{about}{_key(own['type']['const'])}: {types.show(own['data'])};"


def _is_own(type: str) -> bool:
    """True if this isn't a type of the product's services, of which the examples count as the user's own."""
    return type != placement_events.TYPE and BUILT_IN.get(type, EXAMPLES) == EXAMPLES


class _Types:
    """The named schemas, and which of them are used; arguments and results differ where a field has a default."""

    def __init__(self, schemas: Json) -> None:
        self._schemas = schemas
        self._names: dict[tuple[str, bool], str] = {}

    def show(self, schema: Any, given: bool = False) -> str:
        """Return the schema as a type, of what a caller gives or of what the fleet returns."""
        if not isinstance(schema, dict):
            return "never" if schema is False else "unknown"
        if "$ref" in schema:
            return self._reference(schema["$ref"], given)
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return _union(map(json.dumps, schema["enum"]))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return _union(self.show(each, given) for each in schema[word])
        if "allOf" in schema:
            return " & ".join(_bracket(self.show(each, given)) for each in schema["allOf"])
        kinds = schema.get("type", "object" if "properties" in schema else [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return _union(self._kind(schema, kind, given) for kind in kinds) if kinds else "unknown"

    def show_args(self, schema: Json) -> str:
        """Return the arguments of a method, spelled out."""
        while isinstance(schema.get("$ref"), str):
            schema = self._schemas[schema["$ref"].removeprefix(COMPONENTS)]
        return self.show(schema, given=True)

    def declarations(self) -> Iterator[str]:
        """Yield the declarations of all types that are named, those that they name included."""
        shown: set[tuple[str, bool]] = set()
        while missing := sorted(self._names.keys() - shown):
            for component, given in missing:
                shown.add((component, given))
                yield self._declaration(component, given)

    def _declaration(self, component: str, given: bool) -> str:
        schema, name = self._schemas[component], self._names[component, given]
        about = _comment(schema.get("description", ""))
        if "properties" in schema and schema.get("type") == "object":
            return f"{about}export interface {name} {{\n{_indent(self._fields(schema, given, documented=True))}}}\n"
        return f"{about}export type {name} = {self.show(schema, given)};\n"

    def _kind(self, schema: Json, kind: str, given: bool) -> str:
        if kind == "array":
            return self._array(schema, given)
        if kind != "object":
            return PRIMITIVES.get(kind, "unknown")
        if fields := list(self._fields(schema, given)):
            return f"{{ {' '.join(fields).removesuffix(';')} }}"
        more = schema.get("additionalProperties", True)
        return "Record<string, never>" if more is False else f"Record<string, {self.show(more, given)}>"

    def _array(self, schema: Json, given: bool) -> str:
        items = schema.get("items", True)
        if "prefixItems" not in schema:
            return f"{_bracket(self.show(items, given))}[]"
        parts = [self.show(each, given) for each in schema["prefixItems"]]
        rest = [f"...{_bracket(self.show(items, given))}[]"] if items is not False else []
        return f"[{', '.join([*parts, *rest])}]"

    def _fields(self, schema: Json, given: bool, documented: bool = False) -> Iterator[str]:
        required = set(schema.get("required", ()))
        for name, field in schema.get("properties", {}).items():
            there = name in required or (not given and _has_default(field))
            about = _comment(field.get("description", "")) if documented and isinstance(field, dict) else ""
            yield f"{about}{_key(name)}{'' if there else '?'}: {self.show(field, given)};"

    def _reference(self, reference: str, given: bool) -> str:
        component = reference.removeprefix(COMPONENTS)
        if component not in self._schemas:
            return "unknown"
        given = given and self._has_defaults({"$ref": reference}, frozenset())
        if (component, given) not in self._names:
            name = _pascal(component) + ("Input" if given else "")
            while name in {*self._names.values(), "Fleet"}:
                name += "_"
            self._names[component, given] = name
        return self._names[component, given]

    def _has_defaults(self, schema: Any, seen: frozenset[str]) -> bool:
        """True if arguments of this schema may leave out what results have."""
        if isinstance(schema, list):
            return any(self._has_defaults(each, seen) for each in schema)
        if not isinstance(schema, dict):
            return False
        if isinstance(reference := schema.get("$ref"), str):
            component = reference.removeprefix(COMPONENTS)
            return component not in seen and self._has_defaults(self._schemas.get(component), seen | {component})
        fields = schema.get("properties", {}).values()
        return any(map(_has_default, fields)) or self._has_defaults([*schema.values()], seen)


def _add_schema(schemas: Json, collection: str, schema: Any) -> Any:
    """Add a collection's schema and its definitions to the others, and return a reference to it."""
    if not isinstance(schema, dict):
        return schema is not False
    root = f"{collection}-item"

    def copy(value: Any) -> Any:
        if isinstance(value, list):
            return [copy(each) for each in value]
        if not isinstance(value, dict):
            return value
        copied = {name: copy(each) for name, each in value.items() if name not in ("$defs", "definitions")}
        if isinstance(target := value.get("$ref"), str):
            copied["$ref"] = COMPONENTS + (root if target == "#" else f"{root}-{target.rpartition('/')[2]}")
        return copied

    for word in ("$defs", "definitions"):
        schemas |= {f"{root}-{name}": copy(each) for name, each in schema.get(word, {}).items()}
    schemas[root] = copy(schema)
    return {"$ref": COMPONENTS + root}


def _has_default(field: Any) -> bool:
    return isinstance(field, dict) and "default" in field


def _union(types: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(types)) or "never"


def _bracket(type: str) -> str:
    return f"({type})" if re.search(r" [|&] ", type) else type


def _key(name: str) -> str:
    return name if _is_word(name) else json.dumps(name)


def _pascal(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name)) or "Type"


def _comment(text: str) -> str:
    """Return the text as a comment in front of what it describes, or nothing."""
    lines = text.strip().replace("*/", "*\\/").splitlines()
    if len(lines) < 2:
        return f"/** {lines[0]} */\n" if lines else ""
    return "\n".join(["/**", *(f" * {line}".rstrip() for line in lines), " */", ""])


def _indent(blocks: Iterable[str]) -> str:
    return "".join(f"  {line}\n" if line else "\n" for block in blocks for line in block.splitlines())
