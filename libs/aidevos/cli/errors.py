"""Errors of the command `aidevos`, and its exit statuses."""

from __future__ import annotations

# The fleet can't be reached, or can't answer now; the same command may succeed later.
UNREACHABLE = 1
# The command, one of its values or a setting is wrong.
WRONG = 2
# Not all of it succeeded: some objects or items, a task, or a delivery have failed.
INCOMPLETE = 3
# No valid credential, or one that doesn't allow this.
UNAUTHORISED = 4
# There is no such object, type or user.
NOT_FOUND = 5
# The present state rules it out, such as another version.
CONFLICT = 6


class CommandError(Exception):
    """Raised if a command can't do its work; the message is one line."""

    def __init__(self, line: str, status: int = WRONG) -> None:
        super().__init__(line)
        self.status = status
