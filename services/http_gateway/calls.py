"""Requests to objects on behalf of HTTP requests: bounded in number, with what the headers ask for.

Promise: of one type no more than `max_type_pending` requests are under way, so that a service that
doesn't answer takes no more of this process than that; beyond it callers are answered at once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import DurableObjectClient
from aidevos.settings import Settings

from . import headers, parameters
from .new_ids import derived_id, new_id
from .resource import Incoming

# What a request ID is called over HTTP.
IDEMPOTENCY_KEY = "Idempotency-Key"


class Calls:
    """`client` calls as who asks, or, for what the gateway itself has to know, with this credential."""

    def __init__(self, client: DurableObjectClient, credential: Callable[[], str], settings: Settings) -> None:
        self._client = client
        self._credential = credential
        self._max_deadline = settings.max_deadline
        self._max_pending = settings.max_type_pending
        self._under_way: Counter[str] = Counter()

    async def request(self, subject: str, payload: bytes, options: dict[str, Any]) -> bytes:
        """The reply's payload; `options` are the client's. Raises `Failure`."""
        type = subject.split(".", 2)[1]
        if self._under_way[type] >= self._max_pending:
            raise Failure("overloaded", f"too many requests to {type} are under way in this gateway")
        self._under_way[type] += 1
        try:
            return await self._client.request(subject, payload, **options)
        except Failure as failure:
            if failure.field == envelope.REQUEST_ID:
                failure.field = IDEMPOTENCY_KEY
            raise
        finally:
            self._under_way[type] -= 1

    async def arguments(self, subject: str, payload: bytes, options: dict[str, Any], within: str = "args") -> bytes:
        """As `request`, where the HTTP body is what a method knows as its arguments, or as this part
        of them: a failure names the body's field."""
        try:
            return await self.request(subject, payload, options)
        except Failure as failure:
            if failure.field is not None:
                failure.field = failure.field.removeprefix(within).removeprefix(".") or "body"
            raise

    async def search(self, incoming: Incoming, subject: str) -> bytes:
        """One page of a declared search, whose arguments are the request's parameters."""
        return await self.arguments(subject, parameters.page(incoming.parameters), self.options(incoming))

    def new_id(self, incoming: Incoming, type: str, *parts: str) -> str:
        """The ID of what the request makes: of a caller and an `Idempotency-Key` always the same one, so
        that a repeat makes no second one. `parts` stand for a caller who isn't known."""
        return new_id(_key(incoming), type, incoming.principal.subject, *parts)

    async def use_key(self, incoming: Incoming, body: bytes) -> None:
        """Raises `request-id-reused` when the caller has used its `Idempotency-Key` for another request.
        To be asked where the body says which object is made: else that object itself notices."""
        key, caller = _key(incoming), incoming.principal.subject
        if key is None or not caller:
            return
        hashed = hashlib.sha256(incoming.target.encode() + b"\0" + body).hexdigest()
        subject = subjects.call(envelope.IDEMPOTENCY_KEY_TYPE, derived_id(caller, key), "use")
        options = {"authorization": self._credential(), "request_id": "use"}
        await self.request(subject, msgspec.json.encode({"request": hashed}), options)

    def options(self, incoming: Incoming) -> dict[str, Any]:
        """What the request's headers ask of the call."""
        left = incoming.header(b"deadline")
        match = incoming.header(b"if-match")
        trace = incoming.header(b"traceparent")
        passed = {envelope.CLIENT_ADDRESS: incoming.address}
        if match is not None:
            passed[envelope.IF_MATCH] = headers.entity_tags("If-Match", match)
        if trace is not None and headers.is_trace(trace):
            passed[envelope.TRACEPARENT] = trace
        return {
            "authorization": incoming.header(b"authorization"),
            "request_id": _key(incoming),
            "deadline": None if left is None else min(headers.deadline(left), self._max_deadline),
            "headers": passed,
        }


def _key(incoming: Incoming) -> str | None:
    key = incoming.header(b"idempotency-key")
    return None if key is None else headers.idempotency_key(key)
