"""The running turn, as an object's methods reach it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol, cast

from aidevos.contracts.objects import DurableObject, PendingWork
from aidevos.durable.objects.alarm import Scheduled
from aidevos.durable.objects.declaration import Event
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.history import Versions
from aidevos.security.permissions import Principal

log = logging.getLogger(__name__)


class RunningTurn(Protocol):
    """The turn of one method call. The methods of `BaseDurableObject` delegate to it and describe what it does."""

    now: float
    # The object whose turn this is; None once the turn has ended.
    holder: object | None

    @property
    def open(self) -> bool: ...

    @property
    def name(self) -> str: ...

    def report(self, defect: Defect) -> None: ...

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

    @property
    def versions(self) -> Versions: ...

    async def join(self, project: str | None) -> None: ...

    def view(self) -> DurableObject: ...

    def pending_work(self) -> PendingWork: ...

    def hibernate(self) -> None: ...

    def convert_state(self, state: dict[str, Any]) -> Any: ...

    def load_state(self, state: dict[str, Any], schema: int) -> Any: ...

    def establish(self, project: str | None, made_at: datetime | None) -> None: ...

    def emit(self, event: Event) -> None: ...

    def tell(self, type: str, id: str, method: str, args: Mapping[str, Any]) -> None: ...

    async def call(self, type: str, id: str, method: str, payload: bytes) -> bytes: ...

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

    def rewrite(self) -> None: ...

    async def forget_outcomes(self) -> None: ...


current_turn: ContextVar[RunningTurn] = ContextVar("current_turn")


class Hook:
    """The part of a turn that a lifecycle hook has: it may use the state of its object."""

    name = "a lifecycle hook"
    open = False

    def __init__(self, holder: object) -> None:
        self.holder: object | None = holder

    def report(self, defect: Defect) -> None:
        """Do nothing: the log has it."""


@contextmanager
def using_state(holder: object) -> Iterator[None]:
    """Let a lifecycle hook use the state of its object while the block runs."""
    hook = Hook(holder)
    token = current_turn.set(cast(RunningTurn, hook))
    try:
        yield
    finally:
        hook.holder = None
        current_turn.reset(token)


def refuse_state(turn: RunningTurn | None, object_id: str) -> Defect:
    """Log, report and return the defect of code that uses an object's state outside its turn."""
    where = "outside a turn" if turn is None else f"by code of {turn.name} that goes on after its turn"
    defect = Defect(f"the state of {object_id} was used {where}")
    log.error("%s", defect, stack_info=True)
    if turn is not None:
        turn.report(defect)
    return defect
