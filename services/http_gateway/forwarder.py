"""Requests to objects on behalf of HTTP requests.

Promise: at most `max_type_pending` requests to one type are in progress, so an unresponsive service
can't occupy more of this process. Further callers get `overloaded` at once.
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

from .http import headers
from .http.request import REQUEST_ID, HttpRequest
from .new_ids import derive_id, new_id

# The HTTP header that carries the request ID.
IDEMPOTENCY_KEY = "Idempotency-Key"


class Forwarder:
    """Sends requests on the caller's behalf; the gateway's own lookups use `credential`."""

    def __init__(self, client: DurableObjectClient, credential: Callable[[], str], settings: Settings) -> None:
        self._client = client
        self._credential = credential
        self._max_deadline = settings.max_deadline
        self._max_pending = settings.max_type_pending
        self._under_way: Counter[str] = Counter()

    async def request(self, subject: str, payload: bytes, options: dict[str, Any]) -> bytes:
        """Send a request and return the reply's payload. Raises `Failure`.

        `options` are the keyword arguments of `DurableObjectClient.request`.
        """
        type = subject.split(".", 2)[1]
        if self._under_way[type] >= self._max_pending:
            raise Failure("overloaded", f"too many requests to {type} are in progress in this gateway")
        self._under_way[type] += 1
        try:
            return await self._client.request(subject, payload, **options)
        except Failure as failure:
            if failure.field == envelope.REQUEST_ID:
                failure.field = IDEMPOTENCY_KEY
            raise
        finally:
            self._under_way[type] -= 1

    async def request_with_body(
        self, subject: str, payload: bytes, options: dict[str, Any], within: str = "args"
    ) -> bytes:
        """Send a request whose payload comes from an HTTP body, like `request`.

        The body becomes the method's arguments, or the part `within` of them. A failure names the
        body's field.
        """
        try:
            return await self.request(subject, payload, options)
        except Failure as failure:
            for named in (failure, *(failure.errors or ())):
                if named.field is not None:
                    named.field = named.field.removeprefix(within).removeprefix(".") or "body"
            raise

    async def bind_key(self, request: HttpRequest) -> None:
        """Bind the caller's `Idempotency-Key` to this request.

        Raises `request-id-reused` if it is bound to another request. Use this when the body decides
        which object is created; otherwise the object itself detects the reuse.
        """
        key, caller = key_of(request), request.principal.subject
        if key is None or not caller:
            return
        hashed = hashlib.sha256(request.target.encode() + b"\0" + request.content).hexdigest()
        subject = subjects.call(envelope.IDEMPOTENCY_KEY_TYPE, derive_id(caller, key), "use")
        options = {"authorization": self._credential(), "request_id": "use"}
        await self.request(subject, msgspec.json.encode({"request": hashed}), options)

    def options(self, request: HttpRequest) -> dict[str, Any]:
        """Return the options for `request`, taken from the HTTP request's headers."""
        left = request.header(b"deadline")
        match = request.header(b"if-match")
        forwarded = {envelope.CLIENT_ADDRESS: request.address, envelope.HTTP_REQUEST_ID: request.scope[REQUEST_ID]}
        if match is not None:
            forwarded[envelope.IF_MATCH] = headers.parse_entity_tags("If-Match", match)
        return {
            "authorization": request.header(b"authorization"),
            "request_id": key_of(request),
            "deadline": None if left is None else min(headers.parse_deadline(left), self._max_deadline),
            "headers": forwarded,
        }

    def anonymous_options(self, request: HttpRequest) -> dict[str, Any]:
        """Return the same as `options`, without the request's credential."""
        return self.options(request) | {"authorization": ""}

    def own_options(self, request: HttpRequest) -> dict[str, Any]:
        """Return the same as `options`, for a look-up of the gateway itself."""
        return self.options(request) | {"authorization": self._credential()}


def new_object_id(request: HttpRequest, type: str, *parts: str) -> str:
    """Return an ID for the object that the request creates.

    With an `Idempotency-Key`, the ID depends on the caller and the key, so a repeated request creates
    no second object. `parts` stand in for a caller who isn't known.
    """
    return new_id(key_of(request), type, request.principal.subject, *parts)


def key_of(request: HttpRequest) -> str | None:
    key = request.header(b"idempotency-key")
    return None if key is None else headers.parse_idempotency_key(key)
