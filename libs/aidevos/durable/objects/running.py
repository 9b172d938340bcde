"""The running turn, as an object's methods reach it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from aidevos.contracts.objects import DurableObject
from aidevos.durable.objects.alarm import Scheduled
from aidevos.durable.objects.declaration import Event
from aidevos.security.permissions import Principal


class RunningTurn(Protocol):
    """The turn of one method call. The methods of `BaseDurableObject` delegate to it and describe what it does."""

    now: float
    open: bool

    @property
    def caller(self) -> Principal: ...

    @property
    def client_address(self) -> str: ...

    @property
    def if_match(self) -> str | None: ...

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def exists(self) -> bool: ...

    @property
    def project(self) -> str | None: ...

    async def join(self, project: str | None) -> None: ...

    def view(self) -> DurableObject: ...

    def convert_state(self, state: dict[str, Any]) -> Any: ...

    def emit(self, event: Event) -> None: ...

    def tell(self, type: str, id: str, method: str, args: Mapping[str, Any]) -> None: ...

    async def call(self, type: str, id: str, method: str, args: Mapping[str, Any]) -> Any: ...

    async def forward(
        self, subject: str, payload: bytes, *, request_id: str, content_type: str, authorization: str | None
    ) -> bytes: ...

    async def ask(self, type: str, view: str, args: Mapping[str, Any]) -> Any: ...

    def set_alarm(self, name: str, alarm: Scheduled) -> None: ...

    def cancel_alarm(self, name: str) -> bool: ...

    def alarm(self, name: str) -> Scheduled | None: ...

    def alarm_names(self) -> Iterable[str]: ...

    async def checkpoint(self, *, keeps_version: bool) -> None: ...

    def delete(self) -> None: ...

    async def forget_outcomes(self) -> None: ...


current_turn: ContextVar[RunningTurn] = ContextVar("current_turn")
