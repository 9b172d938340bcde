"""Type descriptions for tests, and checks of the AsyncAPI documents made from them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from jsonschema import Draft7Validator

from aidevos.contracts.objects import MethodDescription, TypeDescription
from tests.support.paths import VECTORS


class Line(msgspec.Struct, tag="line"):
    length: float


class Group(msgspec.Struct, tag="group"):
    parts: "list[Line | Group]"  # noqa: UP037 a class can't name itself otherwise
    labels: dict[str, int | None] = {}


def method(name: str, args: dict[str, Any], result: dict[str, Any]) -> MethodDescription:
    return MethodDescription(name=name, kind="query", doc="", allow="x:read", args=args, result=result)


def type_description(
    type: str, methods: list[MethodDescription], defs: dict[str, Any] | None = None
) -> TypeDescription:
    return TypeDescription(
        type=type, doc="", management="raw", state={"type": "object"}, methods=methods, defs=defs or {}
    )


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        own |= set(value.get("discriminator", {}).get("mapping", {}).values())
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


STANDARD = Draft7Validator(
    json.loads((VECTORS / "asyncapi" / "3.0.0.json").read_text()),
)


def assert_sound(document: dict[str, Any]) -> None:
    STANDARD.validate(document)
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    addresses = [channel["address"] for channel in document["channels"].values() if channel["address"]]
    assert len(set(addresses)) == len(addresses)
    for channel in document["channels"].values():
        assert channel["address"] is None or channel["address"].count("{") == len(channel["parameters"])
