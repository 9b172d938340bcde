"""The description of the NATS API: valid by the standard's own schema, and true for every type."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, DurableObjectRegistry, Event, command, permission
from aidevos.contracts import placement_events
from aidevos.contracts.objects import TypeDescription
from services.api_gateway.service import service as api_gateway
from services.authentication.service import service as authentication
from services.data_storage.service import service as data_storage
from services.http_gateway.description.asyncapi import describe
from services.objects.service import service as objects
from services.projects.service import service as projects
from services.user_management.service import service as user_management
from tests.support.described_types import STANDARD, Group, Line, assert_sound, method, type_description

SERVICES = (objects, authentication, user_management, data_storage, api_gateway, projects)
TYPES = [cls for service in SERVICES for cls in service.types]


def shipped() -> list[TypeDescription]:
    return [type.description for type in DurableObjectRegistry(TYPES).types.values()]


def test_without_types_the_document_is_valid() -> None:
    assert_sound(describe([]))


def test_every_shipped_method_search_and_event_is_described() -> None:
    document = describe(shipped(), internal=True)

    assert_sound(document)
    channels = {channel["address"] for channel in document["channels"].values()}
    assert {
        "do.counter.{id}.increment",
        "do.{type}.{id}._create",
        "query.{type}.list",
        "query.user.search",
        "event.user.{id}.access_changed",
        "event.item.{id}.created",
        "event.route.{id}.changed",
        "event.fleet.{id}.partitions_taken",
    } <= channels
    operations = document["operations"].values()
    for operation in operations:
        inside = operation["channel"]["$ref"] + "/messages/"
        assert all(message["$ref"].startswith(inside) for message in operation["messages"])
        assert (operation["action"] == "receive") == ("reply" in operation)
    assert len(document["operations"]) == 11 + sum(
        len(type.methods) + len(type.queries) + len(type.events) for type in (*shipped(), placement_events.describe())
    )


def test_tagged_and_recursive_types_are_valid_too() -> None:
    (args, result), defs = msgspec.json.schema_components((Group, Line | Group), ref_template="#/$defs/{name}")

    assert_sound(describe([type_description("picture", [method("draw", args, result)], defs)]))


class Nothing(msgspec.Struct):
    """Nothing."""


class Painted(Event):
    """It has another colour."""

    colour: str


class Hidden(Event):
    """Nobody emits it."""


class Wall(BaseDurableObject[Nothing], type="wall"):
    @command(allow=permission("wall:write"))
    async def paint(self, colours: list[str]) -> None:
        """Paint."""
        [self._put(lambda colour=colour: Painted(colour)) for colour in colours]  # type: ignore[misc]

    def _put(self, make: Any) -> None:
        self.emit(make())


def test_the_events_of_a_type_are_those_that_its_methods_name() -> None:
    described = DurableObjectRegistry([Wall]).types["wall"].description

    assert [(event.name, event.doc) for event in described.events] == [("painted", "It has another colour.")]
    assert described.defs["Painted"]["required"] == ["colour"]


def test_an_announcement_of_an_older_host_can_be_read() -> None:
    older = msgspec.to_builtins(shipped()[0])
    del older["events"], older["queries"]

    assert msgspec.convert(older, TypeDescription).events == []


@pytest.mark.parametrize(
    "broken", [{"asyncapi": "3.0.0"}, {"asyncapi": "2.0.0", "info": {"title": "t", "version": "1"}}]
)
def test_the_standard_refuses_what_is_none(broken: dict[str, Any]) -> None:
    assert not STANDARD.is_valid(broken)
