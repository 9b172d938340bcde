"""What an endpoint with a long answer has to know of its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

# Where a request's scope keeps its connection.
CONNECTION = "aidevos.connection"
End = Literal["gone", "draining"]


class Connection(Protocol):
    def watch(self, ended: Callable[[End], None] | None) -> None:
        """Have it called when the client has gone, or when the server ends and waits for the answer's end."""

    def cut(self) -> None:
        """End the connection at once, whatever has yet to be sent: for clients that don't read."""
