"""Schemas of documents: the standard's own tests, and protection from costly schemas."""

from __future__ import annotations

import socket
import time
from typing import Any

import msgspec
import pytest

from aidevos.contracts.errors import Failure
from services.data_storage.schema_cost import Cost, measure
from services.data_storage.schemas import MAX_PATTERNS, MAX_SIZE, Validator
from tests.support.json_schema_suite import REMOTE, Group, groups

# Seconds: far more than any of these needs, and far less than an unbounded check would take.
SOON = 5.0


def fits(validator: Validator, data: Any) -> bool:
    try:
        validator.check(data, "data")
    except Failure as failure:
        return (failure.code, failure.status, str(failure.field)[:4]) != ("invalid", 422, "data")
    return True


def refused(schema: Any) -> Failure:
    with pytest.raises(Failure) as refused:
        Validator(schema)
    assert (refused.value.code, refused.value.status) == ("invalid", 422)
    return refused.value


@pytest.mark.parametrize("group", [pytest.param(group, id=f"{group.file}: {group.description}") for group in groups()])
def test_schemas_mean_what_the_standards_own_tests_say(group: Group) -> None:
    if group.remote:
        assert REMOTE.encode() in msgspec.json.encode(group.schema)
        assert refused(group.schema).field in ("args.config.schema", "args.config.schema.$schema")
        return
    validator = Validator(group.schema)
    assert [fits(validator, test["data"]) for test in group.tests] == [test["valid"] for test in group.tests]


def test_all_of_the_standards_tests_are_there_and_few_are_left_out() -> None:
    counts = [(len(group.tests), group.remote) for group in groups()]
    assert sum(count for count, _ in counts) == 1299
    assert sum(count for count, remote in counts if remote) == 49


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nothing_is_fetched(keyword: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        url = f"http://{host}:{listener.getsockname()[1]}/schema.json"
        for schema in ({keyword: url}, {"properties": {"a": {"$id": url, keyword: "other.json"}}}):
            if keyword != "$schema" or "properties" not in schema:
                refused(schema)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_no_file_is_read() -> None:
    for reference in ("file:///etc/hostname", "/etc/hostname", "../schema.json"):
        assert "other documents" in refused({"$ref": reference}).detail


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ([], ""),
        ("{}", ""),
        (None, ""),
        ({"type": "strin"}, ".type"),
        ({"properties": {"a": {"items": {"minimum": "1"}}}}, ".properties.a.items.minimum"),
        ({"allOf": [{}, {"required": "a"}]}, ".allOf[1].required"),
        ({"pattern": "("}, ".pattern"),
        ({"pattern": "(?=a)a"}, ".pattern"),
        ({"pattern": r"(a)\1"}, ".pattern"),
        ({"pattern": r"(\w{100}){100}"}, ".pattern"),
        ({"$ref": "#/nowhere"}, ""),
        ({"$ref": "#nowhere"}, ""),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, ".$schema"),
        ({"allOf": [{"pattern": f"{number}"} for number in range(MAX_PATTERNS + 1)]}, ""),
        ({"description": "x" * MAX_SIZE}, ""),
        ({"enum": [[]] * 3, "allOf": [{} for _ in range(3000)]}, ""),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, ""),
        ({"not": {"$ref": "#"}}, ""),
    ],
)
def test_what_is_no_schema_is_refused_by_its_place(schema: Any, field: str) -> None:
    assert refused(schema).field == "args.config.schema" + field


def test_a_schema_that_is_too_deep_is_refused() -> None:
    schema: Any = {}
    for _ in range(100_000):
        schema = {"not": schema}
    assert "levels deep" in refused(schema).detail


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "data.id"),
        ({"id": 1, "tags": ["a", 2]}, "data.tags[1]"),
        ({"id": "x"}, "data.id"),
        ({"id": 1, "at": {"more": {"x": True}}}, "data.at.more.x"),
        (7, "data"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_its_path_and_not_repeated(data: Any, field: str) -> None:
    validator = Validator(
        {
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "integer"},
                "tags": {"items": {"type": "string"}},
                "at": {"additionalProperties": {"additionalProperties": {"anyOf": [{"type": "null"}]}}},
            },
        }
    )
    with pytest.raises(Failure) as refused:
        validator.check(data, "data")
    assert refused.value.field == field
    assert repr(data) not in refused.value.detail


def test_every_error_of_a_small_document_is_told_and_only_the_first_of_a_large_one() -> None:
    schema = {"required": ["title"], "properties": {"tags": {"items": {"type": "string"}}}}
    small, large = {"tags": [1, "a", 2]}, {"tags": [1] * 2000}

    errors = []
    for data in (small, large):
        with pytest.raises(Failure) as refused:
            Validator(schema).check(data, "data")
        errors.append([error.field for error in refused.value.errors or []])

    assert (sorted(errors[0]), len(errors[1])) == (["data.tags[0]", "data.tags[2]", "data.title"], 1)


def doubling(levels: int) -> Any:
    """Return a schema whose references double at every level, all for the same value."""
    steps: dict[str, Any] = {f"a{step}": {"allOf": [{"$ref": f"#/$defs/a{step + 1}"}] * 2} for step in range(levels)}
    return {"$defs": {**steps, f"a{levels}": {"type": "string"}}, "$ref": "#/$defs/a0"}


BRANCH = {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}


LOOSE = {"properties": {"a": {"$ref": "#/$defs/n"}}}


def nested(levels: int) -> Any:
    data: Any = {}
    for _ in range(levels):
        data = {"a": data}
    return data


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 500_000 + "!"),
        ({"patternProperties": {"^(a|aa)+$": False}}, {"a" * 500_000 + "!": 1, "aaaa": 1}),
        ({"pattern": ".*" * 100 + "b"}, "a" * 500_000),
        ({"anyOf": [BRANCH, BRANCH]}, nested(60)),
        ({"$defs": {"n": {"allOf": [LOOSE, LOOSE]}}, "$ref": "#/$defs/n", "required": ["z"]}, nested(60)),
        ({"items": {"allOf": [{"minItems": number} for number in range(900)]}}, [[]] * 100_000),
        ({"anyOf": [BRANCH, BRANCH]}, nested(13)),
        ({"oneOf": [BRANCH, {"$ref": "#/oneOf/0"}]}, nested(60)),
        ({"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "null"}}]}, [1] * 150_000),
        ({"$dynamicAnchor": "n", "anyOf": [{"items": {"$dynamicRef": "#n"}, "minItems": 1}] * 2}, [[[]]] * 40_000),
        ({"$id": "urn:x:y", "anyOf": [{"items": {"$ref": "urn:x:y"}, "minItems": 1}] * 2}, [[[[]]]] * 30_000),
    ],
)
def test_no_schema_holds_the_service_up(schema: Any, data: Any) -> None:
    begun = time.monotonic()
    assert not fits(Validator(schema), data)
    assert time.monotonic() - begun < SOON


@pytest.mark.parametrize("more", [{}, {"unevaluatedProperties": False}, {"unevaluatedItems": {}}])
def test_a_schema_whose_references_multiply_is_refused(more: dict[str, Any]) -> None:
    begun = time.monotonic()
    assert "one value" in refused(doubling(40) | more).detail
    assert time.monotonic() - begun < SOON
    assert not fits(Validator(doubling(8) | more), [1])


NESTED: list[tuple[Any, Any]] = [
    ({"allOf": [{"additionalProperties": {"$ref": "#"}}, {"patternProperties": {"a": {"$ref": "#"}}}]}, nested(60)),
    ({"$dynamicAnchor": "n", "anyOf": [{"properties": {"a": {"$dynamicRef": "#n"}}}] * 2}, nested(60)),
    ({"allOf": [BRANCH | {"required": []}] * 2, "unevaluatedProperties": False}, nested(60)),
    ({"not": {"not": {"allOf": [BRANCH | {"required": []}] * 2}}}, nested(60)),
    ({"if": BRANCH, "then": BRANCH, "else": {"dependentSchemas": {"a": BRANCH}}}, nested(60)),
]


@pytest.mark.parametrize(("schema", "data"), NESTED)
def test_what_fits_on_every_level_is_found_to_fit_at_once(schema: Any, data: Any) -> None:
    begun = time.monotonic()
    assert fits(Validator(schema), data)
    assert time.monotonic() - begun < SOON


TREE = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "additionalProperties": False}


def test_what_refers_to_itself_in_good_order_costs_the_same_on_every_level() -> None:
    data: Any = {}
    for _ in range(30):
        data = {"left": data, "right": {}}
    assert fits(Validator(TREE), data)
    assert Cost(TREE).at_depth(64) == 1 + 3 * 64
    assert Cost({"anyOf": [BRANCH, BRANCH]}).at_depth(10) > 2**10


def test_a_value_is_measured_by_its_count_and_depth() -> None:
    assert measure(7) == (1, 0)
    assert measure({"a": [1, 2, {}], "b": None}) == (6, 2)


def test_large_documents_fit_simple_schemas() -> None:
    schema = {"items": {"type": "object", "required": ["a"], "properties": {"a": {"anyOf": [{"type": "integer"}]}}}}
    assert fits(Validator(schema), [{"a": number} for number in range(40_000)])
