"""The messages of a process with a user's code to the loop, one JSON object on each line."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

# What a process serves.
Role = Literal["objects", "tasks"]


class Method(msgspec.Struct):
    """A method as its author wrote it.

    `kind` is `command`, `query`, or the pattern of the events that it reacts to. `example` has arguments for a call.
    """

    name: str
    signature: str
    kind: str
    allow: str
    example: dict[str, Any]


class Type(msgspec.Struct):
    """An object type with its own methods."""

    name: str
    methods: list[Method]


class Loaded(msgspec.Struct, tag=True):
    """The code is loaded. `files` are those of its modules, and `tasks` the kinds of tasks with their payloads."""

    types: list[Type]
    tasks: dict[str, str]
    files: list[str]


class Refused(msgspec.Struct, tag=True):
    """The code can't be served. `problem` has lines that say why and where."""

    problem: str


class Joined(msgspec.Struct, tag=True):
    """The process serves now."""


class Unfit(msgspec.Struct, tag=True):
    """Stored states don't fit the code; `problem` says which and why."""

    problem: str


Message = Loaded | Refused | Joined | Unfit
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def decode(line: bytes) -> Message:
    """Return the message on a line."""
    return _decoder.decode(line)
