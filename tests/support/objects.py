"""Object types for the framework's own tests; each method does one thing that can go wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aidevos import BaseDurableObject, Event, Failure, authenticated, command, query, upcast
from aidevos.contracts.objects import DurableObject


class Changed(Event):
    value: int


class Said(Event):
    text: str


class TallyState(msgspec.Struct):
    value: int = 0
    share: float = 0
    tags: list[str] = []
    free: dict[str, Any] = {}


class Tally(BaseDurableObject[TallyState], type="tally", management="raw"):
    """A counter that misbehaves on demand.

    `gate` releases a waiting method; `turns` and `hooks` record what ran, over all objects.
    """

    gate: asyncio.Event
    turns = 0
    hooks: list[str] = []  # noqa: RUF012

    async def on_activate(self) -> None:
        Tally.hooks.append(f"activate {self.id}")

    async def on_hibernate(self) -> None:
        Tally.hooks.append(f"hibernate {self.id}")

    @command(allow=authenticated())
    async def add(self, by: int = 1) -> int:
        Tally.turns += 1
        self.state.value += by
        return self.state.value

    @command(allow=authenticated(), creates=True)
    async def found(self, value: int) -> int:
        Tally.turns += 1
        if self.state.value:
            raise Failure("exists", "it was founded already")
        self.state.value = value
        self.emit(Changed(value))
        return value

    @command(allow=authenticated())
    async def add_loudly(self, by: int = 1) -> int:
        self.state.value += by
        self.emit(Changed(self.state.value))
        return self.state.value

    @command(allow=authenticated())
    async def add_slowly(self, by: int = 1) -> int:
        before = self.state.value
        await Tally.gate.wait()
        self.state.value = before + by
        return self.state.value

    @command(allow=authenticated())
    async def spoil(self, how: str) -> None:
        """Change everything that can be changed, then raise."""
        Tally.turns += 1
        self.state.value += 1000
        self.state.tags.append("spoilt")
        self.state.free.setdefault("nested", {})["spoilt"] = True
        self.emit(Changed(self.state.value))
        self.tell("tally", "other", "add")
        if how == "failure":
            raise Failure("conflict", "spoilt on purpose")
        raise KeyError("spoilt by a bug")

    @command(allow=authenticated())
    async def put(self, key: str, value: Any) -> Any:
        self.state.free[key] = value
        return self.state.free

    @command(allow=authenticated())
    async def nest(self) -> None:
        self.state.free = {"in": self.state.free}

    @command(allow=authenticated())
    async def take_share(self, share: float) -> None:
        self.state.share = int(share)

    @command(allow=authenticated())
    async def grow(self, bytes: int) -> None:
        self.state.tags.append("x" * bytes)

    @command(allow=authenticated())
    async def blob(self, bytes: int, emitted: int = 0) -> str:
        """Return this many bytes, and emit an event of that many."""
        Tally.turns += 1
        if emitted:
            self.emit(Said("x" * emitted))
        return "x" * bytes

    @command(allow=authenticated())
    async def bury_key(self, hazard: str) -> None:
        """Put a value into the state that no store can hold."""
        values = {"integer": {"a": 2**63}, "key": {"a\0b": 1}, "text": {"a": "\ud800"}}
        self.state.free["hazard"] = values[hazard]

    @command(allow=authenticated())
    async def remove(self) -> None:
        await self.delete()

    @query(allow=authenticated())
    async def value(self) -> int:
        return self.state.value

    @query(allow=authenticated())
    async def everything(self) -> TallyState:
        return self.state

    @query(allow=authenticated())
    async def cheat(self) -> int:
        self.state.value += 1
        self.state.free["cheated"] = True
        return self.state.value

    @query(allow=authenticated())
    async def shout(self) -> None:
        self.emit(Changed(self.state.value))

    @query(allow=authenticated(), reentrant=True)
    async def committed(self) -> int:
        return self.state.value

    @query(allow=authenticated(), reentrant=True)
    async def committed_view(self) -> DurableObject:
        return await self.read_object()

    @command(allow=authenticated())
    async def call_other(self, id: str, method: str, by: int = 0) -> Any:
        """Change the state, then call another object with the rest of the deadline."""
        self.state.value += by
        return await self.call("tally", id, method)

    @query(allow=authenticated())
    async def ask_other(self, id: str, method: str) -> Any:
        return await self.call("tally", id, method)

    @query(allow=authenticated())
    async def forward_to(self, id: str, method: str) -> Any:
        return msgspec.json.decode(await self.forward(f"do.tally.{id}.{method}", b"", request_id="forwarded"))

    @command(allow=authenticated())
    async def call_round(self, ids: list[str], method: str) -> Any:
        """Call the first of `ids` to call the next, and so on; the last calls `method` on itself."""
        if len(ids) == 1:
            return await self.call("tally", ids[0], method)
        return await self.call("tally", ids[0], "call_round", ids=ids[1:], method=method)

    @command(allow=authenticated())
    async def tell_other(self, id: str, method: str, times: int = 1) -> None:
        for _ in range(times):
            self.tell("tally", id, method)


class NoteState(msgspec.Struct):
    text: str = ""


class Note(BaseDurableObject[NoteState], type="note", management="raw"):
    """A note in its first schema version."""

    @command(allow=authenticated())
    async def write(self, text: str) -> None:
        self.state.text = text


class NoteStateV3(msgspec.Struct):
    title: str = ""
    words: int = 0


class NoteV3(BaseDurableObject[NoteStateV3], type="note", schema_version=3, management="raw"):
    """The same type, two schema versions later."""

    @upcast(from_=1)
    @staticmethod
    def rename(state: dict[str, Any]) -> dict[str, Any]:
        return {"title": state["text"]}

    @upcast(from_=2)
    @staticmethod
    def count(state: dict[str, Any]) -> dict[str, Any]:
        return state | {"words": len(state["title"].split())}

    @query(allow=authenticated())
    async def read(self) -> NoteStateV3:
        return self.state
