"""The turn that is running now, as the object's methods reach it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from aidevos.contracts.objects import DurableObject

if TYPE_CHECKING:
    from aidevos.durable.objects.alarms import Scheduled
    from aidevos.durable.objects.object import Event
    from aidevos.durable.turns.request import Request


class RunningTurn(Protocol):
    request: Request
    now: float
    open: bool

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def exists(self) -> bool: ...

    @property
    def project(self) -> str | None: ...

    def join(self, project: str) -> None: ...

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


running: ContextVar[RunningTurn] = ContextVar("running")
