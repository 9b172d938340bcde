"""The headers of a message to an object and of its reply."""

from __future__ import annotations

import msgspec

AUTHORIZATION = "Authorization"
REQUEST_ID = "Request-Id"
REQUEST_ACK = "Request-Ack"
# The ID of the HTTP request, or of the call over NATS, that all further calls belong to. It connects log lines.
HTTP_REQUEST_ID = "X-Request-Id"
DEADLINE = "Deadline"
IF_MATCH = "If-Match"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
CALL_CHAIN = "Call-Chain"
# Any value means that the request may only reach a query. Queries send it with their own calls.
QUERY_ONLY = "Query-Only"
# The IP address of the gateway's client; hosts trust it only on the fleet's own connections.
CLIENT_ADDRESS = "Client-Address"
CONTENT_TYPE = "Content-Type"
ERROR_CODE = "Nats-Service-Error-Code"
ERROR = "Nats-Service-Error"
HEADERS = frozenset(
    {AUTHORIZATION, REQUEST_ID, REQUEST_ACK, DEADLINE, IF_MATCH, CALL_CHAIN, QUERY_ONLY, CONTENT_TYPE}
    | {TRACEPARENT, TRACESTATE, HTTP_REQUEST_ID, CLIENT_ADDRESS, ERROR_CODE, ERROR}
)

JSON = "application/json"
MSGPACK = "application/msgpack"

REQUEST_ID_LIMIT = 256
# The prefix of the request IDs of tells, which only services send.
TELL_PREFIX = "tell."
# The type of objects that record for which request a caller has used an `Idempotency-Key`.
IDEMPOTENCY_KEY_TYPE = "idempotency_key"
CALL_CHAIN_LIMIT = 16


class RequestBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /durable-objects/{object_id}/request`."""

    method: str
    args: msgspec.Raw = msgspec.Raw(b"{}")


class CreateBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /durable-objects`.

    Without `name`, the object gets a new ID. An empty `state` means none was sent. `project` is the
    project that the object belongs to.
    """

    type: str
    name: str | None = None
    state: msgspec.Raw = msgspec.Raw()
    project: str | None = None


class ReplaceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `PUT /durable-objects/{object_id}`."""

    state: msgspec.Raw


class ForkBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /durable-objects/{object_id}/versions/{version}/fork`, like `CreateBody`."""

    name: str | None = None
    project: str | None = None


def encode_deadline(seconds: float) -> str:
    """Return the header of a request that has this long: whole milliseconds, at least one."""
    return str(max(1, int(seconds * 1000)))
