"""Mistakes in a class of objects are refused when it is made or served, in a sentence that names class and field."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, Event, Service, authenticated, command, inject, on, query, upcast
from aidevos.contracts.built_in import BUILT_IN
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.process.serving import check
from aidevos.testing import ObjectKit
from services import api_gateway, authentication, data_storage, events, objects, projects, user_management
from tests.support.kits import failure


class State(msgspec.Struct):
    value: int = 0


class Pool: ...


class Shared(msgspec.Struct):
    pool: Pool | None = None


class Moved(Event):
    by: int = 0


def refused(declare: Callable[[], Any], *words: str) -> None:
    """Assert that a class is refused when it is made or served, in one line with these words."""
    with pytest.raises(TypeError) as raised:
        DurableObjectRegistry([declare()])
    line = str(raised.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def door(*bases: Any, **body: Any) -> Any:
    """Return a class with these bases and attributes."""
    return types.new_class("Door", bases, {"type": "door"}, lambda namespace: namespace.update(body))


def test_an_upcast_that_is_no_static_method_is_refused() -> None:
    def on_an_instance() -> Any:
        class Door(BaseDurableObject[State], type="door", schema_version=2):
            @upcast(from_=1)
            def widen(self, state: dict[str, Any]) -> dict[str, Any]:
                return state

        return Door

    def on_the_class() -> Any:
        class Door(BaseDurableObject[State], type="door", schema_version=2):
            @upcast(from_=1)
            @classmethod
            def widen(cls, state: dict[str, Any]) -> dict[str, Any]:
                return state

        return Door

    def asynchronous() -> Any:
        class Door(BaseDurableObject[State], type="door", schema_version=2):
            @staticmethod
            @upcast(from_=1)
            async def widen(state: dict[str, Any]) -> dict[str, Any]:
                return state

        return Door

    for declare in (on_an_instance, on_the_class, asynchronous):
        refused(declare, "Door.widen", "@staticmethod")


def test_an_upcast_that_would_never_run_is_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door", schema_version=2):
            @upcast(from_=1)
            @staticmethod
            def widen(state: dict[str, Any]) -> dict[str, Any]:
                return state

            @upcast(from_=2)
            @staticmethod
            def paint(state: dict[str, Any]) -> dict[str, Any]:
                return state

        return Door

    refused(declare, "Door.paint", "from version 2", "schema_version=2")


def test_two_upcasts_from_one_version_are_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door", schema_version=2):
            @upcast(from_=1)
            @staticmethod
            def widen(state: dict[str, Any]) -> dict[str, Any]:
                return state

            @upcast(from_=1)
            @staticmethod
            def paint(state: dict[str, Any]) -> dict[str, Any]:
                return state

        return Door

    refused(declare, "Door has two upcasts from version 1")


def test_a_constructor_with_arguments_of_its_own_is_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            def __init__(self, id: str, state: State, colour: str) -> None:
                super().__init__(id, state)

        return Door

    def without_any() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            def __init__(self) -> None: ...

        return Door

    refused(declare, "Door.__init__", "id and state", "inject()")
    refused(without_any, "Door.__init__", "id and state")


def test_a_constructor_of_id_and_state_is_allowed() -> None:
    class Door(BaseDurableObject[State], type="door"):
        def __init__(self, id: str, state: State) -> None:
            super().__init__(id, state)
            self.knocks = 0

    assert DurableObjectRegistry([Door]).types["door"].cls is Door


def test_a_state_that_is_no_struct_is_refused() -> None:
    @dataclasses.dataclass
    class DoorState:
        value: int = 0

    def of_a_dataclass() -> Any:
        class Door(BaseDurableObject[DoorState], type="door"): ...  # type: ignore[type-var]

        return Door

    def of_a_map() -> Any:
        class Door(BaseDurableObject[dict[str, int]], type="door"): ...  # type: ignore[type-var]

        return Door

    refused(of_a_dataclass, "Door", "class DoorState(msgspec.Struct)", "not <class")
    refused(of_a_map, "Door", "struct", "not dict[str, int]")


def test_a_field_of_a_state_that_can_not_be_stored_is_refused() -> None:
    class Hinge(msgspec.Struct):
        shared: Shared = msgspec.field(default_factory=Shared)

    class Row(msgspec.Struct, array_like=True):
        value: int = 0

    def with_a(state: Any) -> Callable[[], Any]:
        return lambda: door(BaseDurableObject[state])

    refused(with_a(Shared), "Door", "Shared.pool", "Pool")
    refused(with_a(Hinge), "Door", "Hinge.shared", "Pool")
    refused(with_a(Row), "Door", "Row", "array_like")


def test_a_field_of_a_state_without_a_default_is_named() -> None:
    class DoorState(msgspec.Struct):
        height: int
        width: int = 0

    def declare() -> Any:
        class Door(BaseDurableObject[DoorState], type="door"): ...

        return Door

    refused(declare, "Door", "DoorState.height", "default")


def test_a_type_that_is_not_defined_is_named() -> None:
    class DoorState(msgspec.Struct):
        height: Nowhere = 0  # type: ignore[name-defined] # noqa: F821

    def in_the_state() -> Any:
        class Door(BaseDurableObject[DoorState], type="door"): ...

        return Door

    def in_a_method() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            @query(allow=authenticated())
            async def height(self, unit: Nowhere) -> int:  # type: ignore[name-defined] # noqa: F821
                return 0

        return Door

    refused(in_the_state, "Door", "DoorState", "Nowhere")
    refused(in_a_method, "Door.height", "Nowhere")


def test_arguments_and_results_without_json_are_refused() -> None:
    def argument() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            @command(allow=authenticated())
            async def share(self, pool: Pool) -> None: ...

        return Door

    def result() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            @query(allow=authenticated())
            async def share(self) -> Pool:
                return Pool()

        return Door

    refused(argument, "Door.share", "argument pool", "Pool")
    refused(result, "Door.share", "result", "Pool")


def test_a_decorator_without_its_option_is_refused() -> None:
    def bare(decorator: Any, example: str) -> None:
        def declare() -> Any:
            class Door(BaseDurableObject[State], type="door"):
                @decorator  # type: ignore[untyped-decorator]
                async def open(self) -> None: ...

            return Door

        refused(declare, "Door.open", example)

    bare(command, "@command(allow=")
    bare(query, "@query(allow=")
    bare(upcast, "@upcast(from_=1)")
    bare(on, '@on("event.')
    bare(command(name="ajar"), "@command(allow=")  # type: ignore[call-arg]


def test_a_rule_that_is_no_rule_is_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            @command(allow="door:write")  # type: ignore[arg-type]
            async def open(self) -> None: ...

        return Door

    refused(declare, "Door.open", "allow", "'door:write'", "permission(")


def test_a_method_that_emits_a_map_is_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            @command(allow=authenticated())
            async def open(self, wide: bool) -> None:
                if wide:
                    self.widen()

            def widen(self) -> None:
                self.emit({"by": 1})  # type: ignore[arg-type]

        return Door

    refused(declare, "Door.widen", "{'by': 1}", "Event")


def test_a_map_inside_an_event_is_allowed() -> None:
    class Painted(Event):
        colours: dict[str, str]

    class Door(BaseDurableObject[State], type="door"):
        @command(allow=authenticated())
        async def paint(self) -> None:
            self.emit(Painted({"inside": "red"}))

    assert "paint" in DurableObjectRegistry([Door]).types["door"].methods


async def test_what_is_emitted_is_checked_when_it_can_not_be_seen_before(caplog: pytest.LogCaptureFixture) -> None:
    class Door(BaseDurableObject[State], type="door"):
        @command(allow=authenticated())
        async def open(self) -> None:
            self.emit(dict(by=1))  # type: ignore[arg-type] # noqa: C408

        @command(allow=authenticated())
        async def close(self) -> None:
            self.emit(Moved)  # type: ignore[arg-type]

    async with ObjectKit(Door) as kit:
        for method in ("open", "close"):
            assert (await failure(kit.call("door", "d", method))).code == "internal"

    assert "Door.open emits {'by': 1}" in caplog.text
    assert re.search(r"Door\.close emits <class .*Moved'>", caplog.text)


@pytest.mark.parametrize(
    "name", ["ask", "call", "tell", "emit", "delete", "state", "id", "alarms", "now", "create_object", "_running"]
)
def test_a_method_that_would_replace_one_of_the_frameworks_is_refused(name: str) -> None:
    @command(allow=authenticated())
    async def method(self: Any) -> None: ...

    class Mixin: ...

    setattr(Mixin, name, method)

    refused(lambda: door(BaseDurableObject[State], **{name: method}), f"Door.{name}", "rename")
    refused(lambda: door(Mixin, BaseDurableObject[State]), f"Door.{name}", "rename")


def test_an_attribute_that_would_replace_one_of_the_frameworks_is_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            tell: Pool = inject()  # type: ignore[assignment]

        return Door

    refused(declare, "Door.tell", "rename")


def test_a_method_may_have_such_a_name_on_the_wire() -> None:
    class Door(BaseDurableObject[State], type="door"):
        @command(allow=authenticated(), name="delete")
        async def remove(self) -> None: ...

    assert "delete" in DurableObjectRegistry([Door]).types["door"].methods


@pytest.mark.parametrize("name", ["Open", "two words", "_create", "a.b"])
def test_a_name_that_can_not_be_on_the_wire_is_refused(name: str) -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            @command(allow=authenticated(), name=name)
            async def open(self) -> None: ...

        return Door

    refused(declare, "Door.open", "name")


def test_an_option_of_the_class_that_is_in_its_body_is_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            schema_version = 2

        return Door

    refused(declare, "Door.schema_version", "class Door(…, schema_version=…)")


def test_a_hook_that_is_not_async_is_refused() -> None:
    def declare() -> Any:
        class Door(BaseDurableObject[State], type="door"):
            def on_activate(self) -> None: ...  # type: ignore[override]

        return Door

    refused(declare, "Door.on_activate", "async def")


def test_a_type_name_of_a_built_in_type_is_refused() -> None:
    class User(BaseDurableObject[State], type="user"): ...

    with pytest.raises(TypeError, match=r"User .* 'user'.* user_management"):
        check(Service("objects", types=[User]))


def test_a_type_cannot_have_the_name_of_the_fleets_own_events() -> None:
    class Fleet(BaseDurableObject[State], type="fleet"): ...

    with pytest.raises(TypeError, match=r"Fleet .* 'fleet'"):
        check(Service("objects", types=[Fleet]))


def test_the_services_of_a_wheel_have_the_built_in_types() -> None:
    class Counter(BaseDurableObject[State], type="counter"):
        __module__ = "aidevos.services.objects.counter"

    check(Service("objects", types=[Counter]))


def test_the_built_in_types_are_those_of_the_services() -> None:
    packages = (api_gateway, authentication, data_storage, events, objects, projects, user_management)
    services = [__import__(f"{package.__name__}.service", fromlist=["service"]).service for package in packages]
    assert {cls.object_type: service.name for service in services for cls in service.types} == BUILT_IN
    for service in services:
        check(service)
