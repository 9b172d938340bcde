"""The gate: a check of the caller in addition to a method's own authorization rule.

The framework stores the project that an object belongs to. The gate, which the process passes in, decides what a
project means for access.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.request import Request
from aidevos.durable.turns.turn import Turn
from aidevos.security.permissions import Principal


class Gate(Protocol):
    """The policy that decides which callers reach which objects. Its methods raise `Failure` to refuse."""

    def check_call(self, caller: Principal, type: ObjectType, method: str) -> None:
        """Refuse a call that the caller may make on no object of this type."""
        ...

    def check_query(self, caller: Principal, type: ObjectType, name: str) -> None:
        """Refuse a list, search or view over the objects of this type."""
        ...

    def applies_to(self, activation: Activation, request: Request) -> bool:
        """Return True if `admit` must be called before the turn."""
        ...

    def admit(self, activation: Activation, request: Request) -> Awaitable[None] | None:
        """Return None to admit the request now, or an awaitable after which it is queued and checked again."""
        ...

    def needs_document(self, request: Request) -> bool:
        """Return True if the request can only be judged with the stored document."""
        ...

    async def join(self, turn: Turn, project: str | None) -> None:
        """Assign the object that the turn creates to a project, or to none."""
        ...

    async def visible_project(self, caller: Principal, project: str | None) -> str | None:
        """Return the project whose objects a list shows to a caller who asked for `project`.

        The empty string means the objects that belong to no project, and None all objects.
        """
        ...
