"""Internal types of the services, which documents and lists omit."""

from __future__ import annotations

from typing import Any

import pytest

import services
from aidevos import DurableObjectRegistry
from aidevos.cli.openapi import shipped_types
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import TypeDescription
from services.http_gateway.catalogue import TypeCatalogue
from services.http_gateway.description import asyncapi, openapi

INTERNAL = {
    "administrators",
    "collection_holder",
    "departure",
    "eraser",
    "idempotency_key",
    "indexer",
    "item_version",
    "key_holder",
    "mail",
    "quota",
    "recovery",
    "replay",
    "unique",
    "project_holder",
    "webhook_holder",
}
NOTHING: Any = None


@pytest.fixture(scope="module")
def shipped() -> list[TypeDescription]:
    return [type.description for type in DurableObjectRegistry(shipped_types(services)).types.values()]


def named(document: dict[str, Any]) -> set[str]:
    """Return the types that an OpenAPI document names anywhere in its paths, schemas, tags and choices."""
    paths = {path.partition(":")[0].rpartition("/")[2] for path in document["paths"] if ":" in path}
    schemas = {name.partition(".")[0].partition("-")[0] for name in document["components"]["schemas"]}
    choices = set(document["components"]["schemas"]["CreateBody"]["properties"]["type"]["enum"])
    return paths | schemas | choices | {tag["name"] for tag in document["tags"]}


def addressed(document: dict[str, Any]) -> set[str]:
    """Return the types in the subjects and schemas of an AsyncAPI document."""
    subjects = {channel["address"].split(".")[1] for channel in document["channels"].values() if channel["address"]}
    return subjects | {name.partition("-")[0] for name in document["components"]["schemas"]}


def test_the_services_machinery_is_internal_and_nothing_else(shipped: list[TypeDescription]) -> None:
    assert {type.type for type in shipped if type.internal} == INTERNAL


def test_no_public_document_names_an_internal_type(shipped: list[TypeDescription]) -> None:
    assert named(openapi.describe(shipped)) & INTERNAL == set()
    assert addressed(asyncapi.describe(shipped)) & INTERNAL == set()


def test_a_document_has_every_type_on_request(shipped: list[TypeDescription]) -> None:
    every = {type.type for type in shipped}

    assert every <= named(openapi.describe(shipped, internal=True))
    assert INTERNAL - {"replay"} <= addressed(asyncapi.describe(shipped, internal=True))


def test_the_catalogue_names_internal_types_on_request_alone(shipped: list[TypeDescription]) -> None:
    catalogue = TypeCatalogue(NOTHING)
    catalogue._types = {type.type: type for type in shipped}

    assert INTERNAL & set(catalogue.names()) == set()
    assert set(catalogue.names(internal=True)) >= INTERNAL
    catalogue.check("unique")
    with pytest.raises(Failure) as refused:
        catalogue.check("unique", internal=False)
    assert refused.value.code == "unknown-type"
    assert "unique" not in refused.value.detail
