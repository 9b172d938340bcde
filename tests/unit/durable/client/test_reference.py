"""References to objects: their arguments and results are those of the class, or by name only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, Failure, authenticated, command, id_from_name, query
from aidevos.durable.client.reference import refer
from aidevos.testing import ObjectKit
from tests.support.kits import failure

DAY = datetime(2030, 1, 1, tzinfo=UTC)


class Stay(msgspec.Struct):
    guest: str
    until: datetime


class RoomState(msgspec.Struct):
    stays: list[Stay] = []


class Room(BaseDurableObject[RoomState], type="room"):
    @command(allow=authenticated())
    async def book(self, guest: str, until: datetime = DAY, *, notes: list[str] = []) -> Stay:  # noqa: B006
        self.state.stays.append(Stay(guest, until))
        return self.state.stays[-1]

    @command(allow=authenticated(), name="delete")
    async def close_down(self) -> None:
        await self.delete()

    @query(allow=authenticated())
    async def stays(self) -> list[Stay]:
        return self.state.stays


class DeskState(msgspec.Struct):
    pass


class Desk(BaseDurableObject[DeskState], type="desk"):
    @command(allow=authenticated())
    async def welcome(self, guest: str) -> str:
        stay = await self.object(Room, "no. 7").book(guest)
        by_name: dict[str, Any] = (await self.object("room", "no. 7").stays())[0]
        return f"{stay.guest} until {stay.until:%Y} {by_name['guest']}"

    @command(allow=authenticated())
    async def mistake(self, kind: str) -> None:
        room = self.object(Room, "1")
        if kind == "missing":
            await room.book()  # type: ignore[call-arg]
        elif kind == "unknown":
            await room.book("ada", floor=2)  # type: ignore[call-arg]
        elif kind == "refused":
            await self.object("room", "1").book(guest=7)


class Sent:
    """Keeps what a reference sends, and answers with JSON."""

    def __init__(self, reply: bytes = b"null") -> None:
        self.calls: list[tuple[str, str, str, bytes]] = []
        self._reply = reply

    async def __call__(self, type: str, id: str, method: str, payload: bytes) -> bytes:
        self.calls.append((type, id, method, payload))
        return self._reply


async def test_arguments_are_given_by_position_and_by_name_as_in_the_class() -> None:
    sent = Sent(b'{"guest": "ada", "until": "2030-01-01T00:00:00Z"}')

    stay = await refer(Room, "1", sent).book("ada", notes=["late"])

    assert stay == Stay("ada", DAY)
    assert sent.calls == [("room", "1", "book", b'{"guest":"ada","notes":["late"]}')]


async def test_a_method_is_called_by_its_name_on_the_wire() -> None:
    sent = Sent()

    await refer(Room, "1", sent).close_down()
    await refer("room", "1", sent).delete()
    await refer("room", "1", sent)._read()

    assert [(method, payload) for _, _, method, payload in sent.calls] == [
        ("delete", b""),
        ("delete", b""),
        ("_read", b""),
    ]


async def test_any_name_leads_to_an_object() -> None:
    sent = Sent(b"[]")

    await refer(Room, "Hello World", sent).stays()

    assert sent.calls[0][:2] == ("room", id_from_name("room", "Hello World"))


@pytest.mark.parametrize("args", [(), ("ada", DAY, []), ("ada", "bob", "carl")])
async def test_wrong_arguments_are_refused_before_anything_is_sent(args: tuple[Any, ...]) -> None:
    sent = Sent()

    with pytest.raises(TypeError, match=r"Room\.book\(\): "):
        await refer(Room, "1", sent).book(*args)

    assert sent.calls == []


async def test_a_reference_by_name_takes_no_positional_arguments() -> None:
    with pytest.raises(TypeError, match=r"room\.book takes arguments by name"):
        await refer("room", "1", Sent()).book("ada")


async def test_a_result_of_another_type_names_the_method() -> None:
    with pytest.raises(TypeError, match=r"Room\.book declares"):
        await refer(Room, "1", Sent(b'{"guest": 7}')).book("ada")


@pytest.mark.parametrize("name", ["state", "emit", "nothing", "_repr_html_", "__deepcopy__"])
def test_what_is_no_command_or_query_is_no_attribute(name: str) -> None:
    assert not hasattr(refer(Room, "1", Sent()), name)


@pytest.mark.parametrize("name", ["_repr_html_", "Book", "a.b", "", "_"])
def test_an_impossible_name_is_no_attribute(name: str) -> None:
    assert not hasattr(refer("room", "1", Sent()), name)


@pytest.mark.parametrize(("type", "id"), [("Room", "1"), ("room.>", "1"), ("room", ""), ("room", "x" * 2000)])
def test_an_impossible_object_is_refused(type: str, id: str) -> None:
    with pytest.raises(Failure) as refused:
        refer(type, id, Sent())
    assert refused.value.code == "invalid"


@pytest.mark.parametrize("cls", [int, BaseDurableObject])
def test_a_class_without_a_type_is_refused(cls: type[Any]) -> None:
    with pytest.raises(TypeError, match="isn't the class of a type"):
        refer(cls, "1", Sent())


async def test_an_object_calls_another_one_as_its_class_declares() -> None:
    async with ObjectKit(Room, Desk) as kit:
        assert await kit.call("desk", "1", "welcome", guest="ada") == "ada until 2030 ada"


@pytest.mark.parametrize(("kind", "code"), [("missing", "internal"), ("unknown", "internal"), ("refused", "invalid")])
async def test_a_mistake_in_a_call_fails_the_turn_of_the_caller(kind: str, code: str) -> None:
    async with ObjectKit(Room, Desk) as kit:
        assert (await failure(kit.call("desk", "1", "mistake", kind=kind))).code == code
        assert await kit.call("room", "1", "stays") == []
