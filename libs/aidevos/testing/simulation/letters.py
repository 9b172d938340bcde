"""The dead letters of a simulated fleet. Most workloads expect none."""

from __future__ import annotations

import msgspec

from aidevos.contracts import dead_letters
from aidevos.contracts.dead_letters import Letter
from aidevos.durable.objects.declaration import command
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.security.permissions import services


class LetterState(msgspec.Struct):
    letter: Letter | None = None


class Letters(BaseDurableObject[LetterState], type=dead_letters.TYPE):
    """A letter, kept as it was buried."""

    @command(allow=services())
    async def bury(self, letter: Letter) -> None:
        """Keep the letter."""
        self.state.letter = letter
