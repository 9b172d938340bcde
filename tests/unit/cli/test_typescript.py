"""The types of a fleet in TypeScript. `make client` lets the compiler check their use."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, DurableObjectRegistry, Event, anyone, command
from aidevos.cli.typescript import render
from services.http_gateway.description import asyncapi, openapi

BOOK = {
    "type": "object",
    "description": "A book.",
    "properties": {
        "title": {"type": "string"},
        "author": {"$ref": "#/$defs/Author"},
        "editions": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "sequel": {"$ref": "#"},
        "full name": {"const": 'a "name"'},
    },
    "required": ["title"],
    "$defs": {"Author": {"enum": ["ada", "bob"]}},
}


class Line(msgspec.Struct):
    """A line."""

    sku: str
    quantity: int = 1


class BasketState(msgspec.Struct):
    lines: list[Line] = []


class Added(Event):
    """A line was added."""

    line: Line


class Basket(BaseDurableObject[BasketState], type="basket"):
    @command(allow=anyone())
    async def add(self, line: Line, note: str | None = None) -> dict[str, Line]:
        """Add a line, and */ end no comment."""
        self.emit(Added(line))
        return {line.sku: line}

    @command(allow=anyone())
    async def clear(self) -> None:
        self.state.lines = []


def rendered(collections: dict[str, Any] | None = None) -> str:
    types = [DurableObjectRegistry([Basket]).types["basket"].description]
    documents = openapi.describe(types), asyncapi.describe(types)
    return render(*documents, collections or {}, "http://127.0.0.1:8080")


@pytest.mark.parametrize(
    "expected",
    [
        "add: { args: { line: BasketLineInput; note?: string | null }; result: Record<string, BasketLine> };",
        "clear: { args: Record<string, never>; result: null };",
        '"basket.added": BasketAdded;',
        "/** A line was added. */\nexport interface BasketAdded {\n  line: BasketLine;\n}",
        "export interface BasketLine {\n  sku: string;\n  quantity: number;\n}",
        "export interface BasketLineInput {\n  sku: string;\n  quantity?: number;\n}",
        "Add a line, and *\\/ end no comment.",
    ],
)
def test_methods_and_events_have_the_types_of_their_schemas(expected: str) -> None:
    assert expected in rendered()


def test_the_types_of_the_product_s_services_are_left_out() -> None:
    text = rendered()

    assert "fleet.host_joined" not in text
    assert "api_key" not in text


def test_items_have_the_types_of_their_collection_s_schema() -> None:
    text = rendered({"my-books": BOOK, "anything": None, "empty": False})

    assert 'anything: unknown;\n    empty: never;\n    "my-books": MyBooksItem;' in text
    assert "/** A book. */\nexport interface MyBooksItem {\n  title: string;\n  author?: MyBooksItemAuthor;" in text
    assert '  editions?: (number | null)[];\n  sequel?: MyBooksItem;\n  "full name"?: "a \\"name\\"";\n}' in text
    assert 'export type MyBooksItemAuthor = "ada" | "bob";' in text


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["string", "null"]}, "string | null"),
        ({"allOf": [{"type": "string"}, {"oneOf": [{"const": 1}, True]}]}, "string & (1 | unknown)"),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, "[string]"),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, "[string, ...unknown[]]"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "Record<string, number>"),
        ({"$ref": "https://example.org/other"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_every_kind_of_schema_has_a_type(schema: Any, expected: str) -> None:
    assert f"export type AItem = {expected};\n" in rendered({"a": schema})
