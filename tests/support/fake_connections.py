"""Fakes for the connections that a process opens; they record when they are closed."""

from __future__ import annotations

from typing import Any

import pytest

from aidevos.process import stack
from aidevos.settings import SettingsError


class FakeConnections:
    """Fakes for a process's NATS connection and event bus; `events` records when each is closed."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.is_connected = True
        self.bus_fails_to_open = False
        self.bus_fails_to_close = False

    async def connect(self, *args: Any, **options: Any) -> _Connection:
        return _Connection(self)

    async def open_bus(self, *args: Any) -> _Bus:
        if self.bus_fails_to_open:
            raise SettingsError("AIDEVOS_EVENT_BUS_URL: no answer")
        return _Bus(self)


class _Connection:
    def __init__(self, connections: FakeConnections) -> None:
        self._connections = connections

    @property
    def is_connected(self) -> bool:
        return self._connections.is_connected

    async def flush(self, **options: Any) -> None: ...

    async def close(self) -> None:
        self._connections.events.append("close connection")

    async def subscribe(self, *args: Any, **options: Any) -> None: ...

    async def hand_over(self, *args: Any) -> None: ...

    def new_inbox(self) -> str:
        return "_INBOX.x"


class _Bus:
    def __init__(self, connections: FakeConnections) -> None:
        self._connections = connections

    async def close(self) -> None:
        self._connections.events.append("close bus")
        if self._connections.bus_fails_to_close:
            raise OSError("bus broke")


def install_fakes(monkeypatch: pytest.MonkeyPatch) -> FakeConnections:
    """Replace the connection and the bus that processes open with fakes."""
    connections = FakeConnections()
    monkeypatch.setattr(stack, "connect", connections.connect)
    monkeypatch.setattr(stack, "open_bus", connections.open_bus)
    return connections
