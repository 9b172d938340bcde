"""A host process for objects with a state of a chosen size, in two types: one with few objects, and one with many."""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Service, authenticated, command
from aidevos.process.serving import run
from aidevos.settings import load


class NoteState(msgspec.Struct):
    text: str = ""
    written: int = 0


class Note(BaseDurableObject[NoteState], type="note"):
    """A text."""

    @command(allow=authenticated())
    async def write(self, text: str) -> int:
        """Replace the text."""
        self.state.text = text
        self.state.written += 1
        return self.state.written


class Page(Note, type="page"):
    """A text among very many."""


if __name__ == "__main__":
    run(Service("objects", [Note, Page]), load(), reports_health=False)
