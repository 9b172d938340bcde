"""The gate: what a caller needs to reach an object beside what its methods ask for.

The framework knows that an object may belong to a project, and stores which; the gate that hosting passes in
knows what follows from that.
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
    """Decides who may reach which object. Its methods raise `Failure` to refuse."""

    def check_call(self, caller: Principal, type: ObjectType, method: str) -> None:
        """Refuse a call of a method of this type, whatever the object."""
        ...

    def check_query(self, caller: Principal, type: ObjectType, name: str) -> None:
        """Refuse a search or view over the type's objects."""
        ...

    def guards(self, activation: Activation, request: Request) -> bool:
        """True if `admit` has to be asked before the turn."""
        ...

    def admit(self, activation: Activation, request: Request) -> Awaitable[None] | None:
        """Let the request's turn begin now, or return what to await before it is put into the mailbox again."""
        ...

    def needs_document(self, request: Request) -> bool:
        """True if only the stored document tells whether the request may reach its object."""
        ...

    async def join(self, turn: Turn, project: str | None) -> None:
        """Let the object that the turn creates belong to a project, or to none."""
        ...

    async def visible_project(self, caller: Principal, project: str | None) -> str | None:
        """Return which objects a list shows to a caller who asks for those of `project`: those of one project,
        those of no project (the empty string), or all (None)."""
        ...
