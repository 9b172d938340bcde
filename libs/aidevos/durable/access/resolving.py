"""Answers that are usually known at once and sometimes need a look-up first.

A plain function returns such an answer. If it raises `NotReady`, it has had no effect and is called again once the
look-up has ended. An answer that is already known therefore costs no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

Args = TypeVarTuple("Args")
T = TypeVar("T")


class NotReady(Exception):
    """Raised when the answer depends on `lookup`, which has not ended yet. Many callers may share one look-up."""

    def __init__(self, lookup: asyncio.Future[None]) -> None:
        super().__init__()
        self.lookup = lookup


async def resolve_when_ready(function: Callable[[*Args], T], *args: *Args) -> T:
    """Return the function's result, waiting for look-ups as needed. Raise what the function or a look-up raises."""
    while True:
        try:
            return function(*args)
        except NotReady as not_ready:
            await asyncio.shield(not_ready.lookup)
