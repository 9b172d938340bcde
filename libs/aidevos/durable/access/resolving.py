"""What is nearly always known at once, and now and then has to be asked for first.

Who says such a thing is a plain function: one that raises `NotYet` has done nothing, and is called again when
what it waits for is there. So what is known costs no task and nobody's turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

Args = TypeVarTuple("Args")
T = TypeVar("T")


class NotYet(Exception):
    """It can't be said before this has ended, which may serve many."""

    def __init__(self, asking: asyncio.Future[None]) -> None:
        super().__init__()
        self.asking = asking


async def when_known(say: Callable[[*Args], T], *args: *Args) -> T:
    """What the function says, as soon as it can. Raises what it raises, or what has come of asking."""
    while True:
        try:
            return say(*args)
        except NotYet as not_yet:
            await asyncio.shield(not_yet.asking)
