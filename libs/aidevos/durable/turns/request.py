"""A call in the form that the framework handles, whichever entry point it came through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aidevos.contracts.errors import Failure
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.turns.completion import Record
from aidevos.durable.turns.headers import Reply, RequestKey
from aidevos.security.permissions import Principal


class Request:
    """One call of a method of one object.

    `deadline` is in seconds on the event loop's clock. `respond` is called once, with the
    reply.
    """

    __slots__ = (
        "address",
        "alarm",
        "archive_generation",
        "archived_record",
        "args",
        "chain",
        "content_type",
        "deadline",
        "ephemeral",
        "fingerprint",
        "id",
        "if_match",
        "key",
        "membership",
        "method",
        "principal",
        "queued_at",
        "request_id",
        "respond",
        "restarted",
        "type",
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
    ) -> None:
        self.type = type
        self.id = id
        self.method = method
        self.principal = principal
        self.args = args
        self.key = key
        self.fingerprint = fingerprint
        self.if_match = if_match
        self.deadline = deadline
        self.chain = chain
        self.content_type = content_type
        self.respond = respond
        # The key of a confidential command, whose outcome is kept only in memory. `key` is then None.
        self.ephemeral = ephemeral
        # The IP address of the gateway's caller; empty if unknown.
        self.address = address
        # The name of the alarm that made this request; empty for a call.
        self.alarm = alarm
        # The ID that connects the log lines of everything that one HTTP request, or call over NATS, leads to.
        self.request_id = request_id
        # The archived record of an earlier copy, and the archive's generation at the look-up.
        self.archived_record: Record | None = None
        self.archive_generation = -1
        # True if it ran on an activation that wrongly assumed the object to be absent.
        self.restarted = False
        # Kept by the gate: the caller's membership in the object's project.
        self.membership: object = None
        # When it was put into the mailbox, in seconds of `perf_counter`; 0 if that isn't measured.
        self.queued_at = 0.0

    def fail(self, failure: Failure) -> None:
        self.respond(Reply.of(failure))
