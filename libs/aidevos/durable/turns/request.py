"""A call in the form that the framework handles, whichever entry point it came through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from aidevos.contracts.errors import Failure
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.turns.completion import Record
from aidevos.durable.turns.course import Course
from aidevos.durable.turns.headers import Reply, RequestKey
from aidevos.durable.turns.report import report
from aidevos.observability.slow_log import slow_log
from aidevos.observability.tracing import TraceContext
from aidevos.security.permissions import Principal


class Request(Course):
    """One call of a method of one object.

    `deadline` is in seconds on the event loop's clock. `respond` is called once, with the
    reply. `waited` is for how many seconds it has been in this process.
    """

    __slots__ = (
        "_respond",
        "address",
        "archive_generation",
        "archived_record",
        "args",
        "chain",
        "content_type",
        "deadline",
        "ephemeral",
        "fingerprint",
        "if_match",
        "key",
        "membership",
        "principal",
        "restarted",
    )

    def __init__(
        self,
        type: ObjectType,
        id: str,
        method: MethodSpec,
        principal: Principal,
        args: dict[str, Any],
        *,
        key: RequestKey | None,
        fingerprint: bytes,
        if_match: str | None,
        deadline: float,
        chain: tuple[str, ...],
        content_type: str | None,
        respond: Callable[[Reply], None],
        ephemeral: str = "",
        address: str = "",
        alarm: str = "",
        request_id: str = "",
        trace: TraceContext | None = None,
        waited: float = 0.0,
    ) -> None:
        super().__init__(type, id, method, alarm, request_id, trace, perf_counter() - waited)
        self.principal = principal
        self.args = args
        self.key = key
        self.fingerprint = fingerprint
        self.if_match = if_match
        self.deadline = deadline
        self.chain = chain
        self.content_type = content_type
        self._respond = respond
        # The key of a confidential command, whose outcome is kept only in memory. `key` is then None.
        self.ephemeral = ephemeral
        # The IP address of the gateway's caller; empty if unknown.
        self.address = address
        # The archived record of an earlier copy, and the archive's generation at the look-up.
        self.archived_record: Record | None = None
        self.archive_generation = -1
        # True if it ran on an activation that wrongly assumed the object to be absent.
        self.restarted = False
        # Kept by the gate: the caller's membership in the object's project.
        self.membership: object = None

    def respond(self, reply: Reply) -> None:
        self._respond(reply)
        if self.trace is not None or perf_counter() - self.arrived_at >= slow_log.turn:
            report(self, reply)

    def defer(self, finish: Callable[[Callable[[Reply], None], Reply], None]) -> None:
        """Let `finish` send the reply, with the function that sends it."""
        self._respond = partial(finish, self._respond)

    def fail(self, failure: Failure) -> None:
        self.respond(Reply.of(failure))
