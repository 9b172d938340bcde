"""Answers that are nearly always known at once, and now and then have to be looked up first.

A plain function gives such an answer. If it raises `NotReady`, it has done nothing, and is called again once the
look-up has ended. So an answer that is known costs no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

Args = TypeVarTuple("Args")
T = TypeVar("T")


class NotReady(Exception):
    """Raised when the answer isn't known before `lookup` has ended; one look-up may serve many callers."""

    def __init__(self, lookup: asyncio.Future[None]) -> None:
        super().__init__()
        self.lookup = lookup


async def resolve_when_ready(function: Callable[[*Args], T], *args: *Args) -> T:
    """Return the function's result as soon as it has one. Raises what it raises, or what the look-up raises."""
    while True:
        try:
            return function(*args)
        except NotReady as not_ready:
            await asyncio.shield(not_ready.lookup)
