"""The parts of a connection that endpoints use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

# The key of the connection in a request's scope.
CONNECTION = "aidevos.connection"
End = Literal["gone", "draining"]


class Connection(Protocol):
    """A client's connection."""

    @property
    def is_quiet(self) -> bool:
        """True if all requests that have begun to arrive are complete."""

    def watch(self, ended: Callable[[End], None] | None) -> None:
        """Call `ended` when the client disconnects, or when the server drains and waits for the response."""

    def cut(self) -> None:
        """Close the connection at once and discard unsent data: for clients that don't read."""
