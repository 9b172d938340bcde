"""The API's description for types of every shape."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from aidevos.contracts.errors import CODES
from services.http_gateway.description.openapi import describe
from tests.support.described_types import Group, Line, method, references, type_description

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)


def assert_sound(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in document["components"]["schemas"])


@cache
def count_own_schemas() -> int:
    """Return the number of schemas of the gateway's own endpoints."""
    return len(describe([])["components"]["schemas"])


def test_without_types_the_document_is_valid() -> None:
    assert_sound(describe([]))


def test_shared_recursive_and_tagged_definitions_become_components_of_their_type() -> None:
    (args, result), defs = msgspec.json.schema_components((Group, Line | Group), ref_template="#/$defs/{name}")
    types = [type_description(name, [method("draw", args, result)], defs) for name in ("picture", "plan")]

    document = describe(types)

    assert_sound(document)
    schemas = document["components"]["schemas"]
    assert schemas["picture.draw.args"] == {"$ref": "#/components/schemas/picture-Group"}
    assert schemas["plan.draw.result"]["discriminator"]["mapping"]["line"] == "#/components/schemas/plan-Line"


def test_definitions_whose_names_openapi_forbids_stay_distinct() -> None:
    defs = {"Box[int]": {"type": "integer"}, "Box(int)": {"type": "string"}}
    methods = [method("a", {"$ref": "#/$defs/Box[int]"}, {"$ref": "#/$defs/Box(int)"})]

    document = describe([type_description("t", methods, defs)])

    assert_sound(document)
    schemas = document["components"]["schemas"]
    assert schemas["t.a.args"] != schemas["t.a.result"]


def test_arguments_are_required_only_where_one_of_them_is() -> None:
    needed = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    document = describe(
        [type_description("t", [method("a", {"$ref": "#/$defs/A"}, {}), method("b", {}, {})], {"A": needed})]
    )

    schemas = document["components"]["schemas"]
    assert schemas["t.a.request"]["required"] == ["method", "args"]
    assert schemas["t.b.request"]["required"] == ["method"]


def test_every_operation_documents_its_errors_and_who_may_call_it() -> None:
    document = describe([type_description("t", [method("a", {}, {})])])

    documented = {code.status for code in CODES.values()}
    for path, item in document["paths"].items():
        for verb in set(item) - {"parameters"}:
            statuses = set(item[verb]["responses"])
            # The gateway answers this path itself, so it is always available.
            asked = set() if path == "/examples/chat" else {"503"}
            assert {"404", "405", "422", "500"} | asked <= statuses, path
            assert ({"401", "403"} <= statuses) != (item[verb].get("security") == [])
    assert documented == {int(name.removeprefix("problem_")) for name in document["components"]["responses"]}


def test_every_schema_of_the_services_own_endpoints_has_an_example_that_is_valid() -> None:
    components = describe([])["components"]
    shown = {name: schema for name, schema in components["schemas"].items() if "properties" in schema}

    for name, schema in shown.items():
        (example,) = schema["examples"]
        errors = list(Draft202012Validator({**schema, "components": components}).iter_errors(example))
        assert not errors, (name, example, [error.message for error in errors])


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3, unique=True), max_size=4))
def test_types_and_methods_of_any_name_never_collide(shape: dict[str, list[str]]) -> None:
    defs = {"state": {"type": "string"}, "args": {"type": "integer"}}
    types = [
        type_description(
            type, [method(name, {"$ref": "#/$defs/args"}, {"$ref": "#/$defs/state"}) for name in names], defs
        )
        for type, names in shape.items()
    ]

    document = describe(types)

    expected = sum(3 + 4 * len(names) for names in shape.values())
    assert len(document["components"]["schemas"]) == count_own_schemas() + expected
