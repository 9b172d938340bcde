"""What a command of `aidevos` raises."""

from __future__ import annotations


class CommandError(Exception):
    """Why a command can't do its work, in one line."""

    def __init__(self, line: str, status: int = 2) -> None:
        super().__init__(line)
        self.status = status
