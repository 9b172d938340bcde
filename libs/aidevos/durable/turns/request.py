"""A call as the framework handles it, whichever entry point it came through."""

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
    """One call to one method of one object. `deadline` is in seconds on the event loop's clock."""

    __slots__ = (
        "address",
        "alarm",
        "archived",
        "args",
        "chain",
        "content_type",
        "deadline",
        "ephemeral",
        "fingerprint",
        "id",
        "if_match",
        "key",
        "looked_up",
        "method",
        "principal",
        "respond",
        "restarted",
        "standing",
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
        respond: Callable[[Reply | None], None],
        ephemeral: str = "",
        address: str = "",
        alarm: str = "",
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
        # The key of a confidential command, whose outcome is kept in memory alone; it has no `key`.
        self.ephemeral = ephemeral
        # The IP address of who called the gateway; empty when that isn't known.
        self.address = address
        # The name of the alarm that rings; empty for a call.
        self.alarm = alarm
        # The archive's record of an earlier copy, and at which generation of the archive it was asked.
        self.archived: Record | None = None
        self.looked_up = -1
        # Whether it has run on an object that was thought not to be there, and was.
        self.restarted = False
        # What the gate has looked up about the caller.
        self.standing: object = None

    def drop(self) -> None:
        """Say nothing: the lease is lost, and somebody else answers."""
        self.respond(None)

    def fail(self, failure: Failure) -> None:
        self.respond(Reply.of(failure))
