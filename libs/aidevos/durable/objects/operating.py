"""The methods by which operators see what an object has yet to do, and let it leave memory."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from aidevos.contracts import objects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import PendingWork
from aidevos.durable.objects.declaration import Declaration
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.object import MANAGE
from aidevos.durable.objects.running import RunningTurn, current_turn


async def _pending(self: Any) -> PendingWork:
    """Return the object's alarms and outbox, if its type shows states. Raises `not-found`."""
    self._allow_management("raw")
    return _turn_of(self).pending_work()


async def _hibernate(self: Any) -> None:
    """Let the object leave memory after this turn. Raises `not-found`, and `conflict` if it stays busy."""
    _turn_of(self).hibernate()


@functools.cache
def operating_methods() -> Mapping[str, MethodSpec]:
    """Return the methods, which all types share. They are queries, since they change nothing."""
    specs = (
        MethodSpec(_pending, Declaration("query", MANAGE, objects.PENDING)),
        MethodSpec(_hibernate, Declaration("query", MANAGE, objects.HIBERNATE)),
    )
    return {spec.name: spec for spec in specs}


def _turn_of(self: Any) -> RunningTurn:
    turn = current_turn.get()
    if not turn.exists:
        raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
    return turn
