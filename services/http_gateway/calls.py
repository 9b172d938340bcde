"""Requests to objects on behalf of HTTP requests: bounded in number, with what the headers ask for."""

from __future__ import annotations

import hashlib
from typing import Any

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.client import DurableObjectClient
from aidevos.settings import Settings
from services.http_gateway import headers
from services.http_gateway.resource import Incoming


class Calls:
    def __init__(self, client: DurableObjectClient, settings: Settings) -> None:
        self._client = client
        self._max_deadline = settings.max_deadline
        self._max_pending = settings.max_pending
        self._under_way = 0

    async def request(self, subject: str, payload: bytes, options: dict[str, Any]) -> bytes:
        """The reply's payload; `options` are the client's. Raises `Failure`."""
        if self._under_way >= self._max_pending:
            raise Failure("overloaded", "too many requests are under way in this gateway")
        self._under_way += 1
        try:
            return await self._client.request(subject, payload, **options)
        finally:
            self._under_way -= 1

    async def arguments(self, subject: str, payload: bytes, options: dict[str, Any], within: str = "args") -> bytes:
        """As `request`, where the HTTP body is what a method knows as its arguments, or as this part
        of them: a failure names the body's field."""
        try:
            return await self.request(subject, payload, options)
        except Failure as failure:
            if failure.field is not None:
                failure.field = failure.field.removeprefix(within).removeprefix(".") or "body"
            raise

    def new_id(self, incoming: Incoming, *parts: str) -> str:
        """The ID of what the request makes: of a caller and an `Idempotency-Key` always the same one, so
        that a repeat makes no second one. `parts` stand for a caller who isn't known."""
        key = incoming.header(b"idempotency-key")
        if key is None:
            return subjects.new_id()
        made_of = "\0".join((incoming.principal.subject, headers.idempotency_key(key), *parts))
        return hashlib.sha256(made_of.encode()).hexdigest()[:32]

    def options(self, incoming: Incoming) -> dict[str, Any]:
        """What the request's headers ask of the call."""
        key = incoming.header(b"idempotency-key")
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
            "request_id": None if key is None else headers.idempotency_key(key),
            "deadline": None if left is None else min(headers.deadline(left), self._max_deadline),
            "headers": passed,
        }
