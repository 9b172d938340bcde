"""Errors of the command `aidevos`."""

from __future__ import annotations


class CommandError(Exception):
    """Raised if a command can't do its work; the message is one line."""

    def __init__(self, line: str, status: int = 2) -> None:
        super().__init__(line)
        self.status = status
