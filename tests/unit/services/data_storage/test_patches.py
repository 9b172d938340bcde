"""Patches of documents: the vectors of their standards, and their bounds."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from aidevos.contracts.errors import Failure
from aidevos.contracts.merge_patch import merge_patch
from services.data_storage.patches import MAX_COPIED, MAX_OPERATIONS, apply
from tests.support.paths import VECTORS

STANDARD = VECTORS / "json_patch"


def vectors() -> list[Any]:
    """Return every vector but the two about duplicate names in JSON text, which are refused earlier."""
    found = []
    for name in ("spec_tests", "tests"):
        for number, vector in enumerate(msgspec.json.decode((STANDARD / f"{name}.json").read_bytes())):
            if vector.get("comment") not in ("A.13 Invalid JSON Patch Document", "duplicate ops"):
                found.append(pytest.param(vector, id=f"{name} {number} {vector.get('comment', '')}"))
    return found


@pytest.mark.parametrize("vector", vectors())
def test_json_patches_do_what_the_vectors_of_rfc_6902_say(vector: dict[str, Any]) -> None:
    before = copy.deepcopy(vector["doc"])
    if "error" in vector:
        with pytest.raises(Failure) as refused:
            apply(vector["doc"], vector["patch"], "json", "patch")
        assert refused.value.code in ("invalid", "conflict")
        assert str(refused.value.field).startswith("patch")
    else:
        after = apply(vector["doc"], vector["patch"], "json", "patch")
        expected = vector.get("expected", vector["doc"])
        assert (after, type(after)) == (expected, type(expected))
    assert vector["doc"] == before


def test_there_are_as_many_vectors_as_were_published() -> None:
    assert len(vectors()) == 93


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def test_a_merge_patch_changes_neither_the_target_nor_itself() -> None:
    target, patch = {"a": {"b": 1}, "c": [1]}, {"a": {"d": {"e": None}}, "c": None}
    assert apply(target, patch, "merge", "patch") == {"a": {"b": 1, "d": {}}}
    assert (target, patch) == ({"a": {"b": 1}, "c": [1]}, {"a": {"d": {"e": None}}, "c": None})


def operation(op: str, path: Any = "/a", **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **more}


GOOD = operation("add", "/new", value=1)


@pytest.mark.parametrize(
    ("patch", "code", "field"),
    [
        ({}, "invalid", "patch"),
        ([1], "invalid", "patch[0]"),
        ([GOOD, {}], "invalid", "patch[1].op"),
        ([GOOD, operation("spam")], "invalid", "patch[1].op"),
        ([{"op": "remove"}], "invalid", "patch[0].path"),
        ([operation("add")], "invalid", "patch[0].value"),
        ([operation("copy")], "invalid", "patch[0].from"),
        ([operation("move", **{"from": 1})], "invalid", "patch[0].from"),
        ([operation("remove", "a")], "invalid", "patch[0].path"),
        ([operation("remove", "/~2")], "invalid", "patch[0].path"),
        ([GOOD, operation("copy", **{"from": "a"})], "invalid", "patch[1].from"),
        ([GOOD, operation("test", value=2)], "conflict", "patch[1]"),
        ([operation("test", value=True)], "conflict", "patch[0]"),
        ([operation("test", "/t", value=1)], "conflict", "patch[0]"),
        ([operation("test", "/s/0", value="a")], "conflict", "patch[0]"),
        ([operation("test", "/s/__class__", value="a")], "conflict", "patch[0]"),
        ([operation("remove", "/none")], "conflict", "patch[0]"),
        ([operation("remove", "/s/0")], "conflict", "patch[0]"),
        ([operation("remove", "")], "conflict", "patch[0]"),
        ([operation("replace", "/l/-", value=1)], "conflict", "patch[0]"),
        ([operation("add", "/l/2", value=1)], "conflict", "patch[0]"),
        ([operation("add", "/l/-1", value=1)], "conflict", "patch[0]"),
        ([operation("add", "/l/00", value=1)], "conflict", "patch[0]"),
        ([operation("add", "/l/²", value=1)], "conflict", "patch[0]"),
        ([operation("add", "/l/1_0", value=1)], "conflict", "patch[0]"),
        ([operation("add", "/l/" + "9" * 5000, value=1)], "conflict", "patch[0]"),
        ([operation("add", "/l/x/y", value=1)], "conflict", "patch[0]"),
        ([operation("move", "/m/n/o", **{"from": "/m"})], "conflict", "patch[0]"),
        ([GOOD] * (MAX_OPERATIONS + 1), "invalid", "patch"),
    ],
)
def test_a_patch_that_can_not_be_applied_names_its_operation_and_changes_nothing(
    patch: Any, code: str, field: str
) -> None:
    data = {"a": 1, "t": True, "s": "abc", "l": [0], "m": {"n": {}}}
    before = copy.deepcopy(data)
    with pytest.raises(Failure) as refused:
        apply(data, patch, "json", "patch")
    assert (refused.value.code, refused.value.field) == (code, field)
    assert data == before


def test_a_patch_can_not_double_a_document_again_and_again() -> None:
    bomb = [operation("copy", "/-", **{"from": ""}) for _ in range(100)]
    with pytest.raises(Failure, match=f"{MAX_COPIED} bytes") as refused:
        apply(["x" * 1000], bomb, "json", "patch")
    assert (refused.value.code, refused.value.status) == ("invalid", 422)


def test_a_patch_can_not_nest_beyond_what_can_be_read() -> None:
    deeper = [operation("copy", "/a" * (2**step), **{"from": ""}) for step in range(12)]
    with pytest.raises(Failure) as refused:
        apply({"a": {}}, [operation("replace", "", value={"a": 1}), *deeper], "json", "patch")
    assert refused.value.code == "invalid"


def test_what_an_operation_does_not_know_is_ignored() -> None:
    assert apply({}, [GOOD | {"from": 7, "extra": {}}], "json", "patch") == {"new": 1}
