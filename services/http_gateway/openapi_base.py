"""The part of the API's description that doesn't depend on the types: the gateway's own endpoints."""

from __future__ import annotations

from importlib.metadata import version

import msgspec

from aidevos.contracts import objects, subjects
from aidevos.contracts.envelope import REQUEST_ID_LIMIT
from aidevos.contracts.errors import CODES, MEDIA_TYPE, Problem

from . import (
    headers,
    openapi_accounts,
    openapi_api_keys,
    openapi_audit,
    openapi_confirmation,
    openapi_data,
    openapi_dead_letters,
    openapi_events,
    openapi_projects,
    openapi_rate_limits,
    openapi_roles,
    openapi_routes,
    openapi_webhooks,
)
from .openapi_examples import add_examples
from .openapi_parts import (
    CHANGE,
    CHANGING,
    COMMON,
    ETAG,
    LOCATION,
    READING,
    UNCHANGED,
    Json,
    body,
    content,
    given,
    operation,
    parameter,
    reference,
)

# The descriptions of the services' own endpoints.
PARTS = (
    openapi_accounts,
    openapi_roles,
    openapi_audit,
    openapi_dead_letters,
    openapi_data,
    openapi_api_keys,
    openapi_routes,
    openapi_rate_limits,
    openapi_confirmation,
    openapi_projects,
    openapi_webhooks,
    openapi_events,
)
ENTITY_TAGS = r'^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'
OPEN = (400, 404, 405, 422, 500, 503)
ABOUT = """\
Durable objects over HTTP. Every error is a problem document (RFC 9457) with a stable `code`; every
answer carries `X-Request-Id`. Send a token as `Authorization: Bearer …`; `aidevos token` prints one."""


def base() -> Json:
    """The document without any type; a new one at each call."""
    schemas = _schemas() | _all("schemas")
    add_examples(schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "AIDevOS", "version": version("aidevos"), "description": ABOUT},
        "tags": [
            {"name": "objects", "description": "Durable objects of every type"},
            *openapi_accounts.tags(),
            *(part.TAG for part in PARTS if hasattr(part, "TAG")),
            {"name": "operation", "description": "The gateway itself"},
        ],
        "security": [{"bearer": []}, {"api_key": []}, {"cookie": []}],
        "paths": _object_paths() | _all("paths") | _operation_paths(),
        "webhooks": openapi_webhooks.received(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "api_key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Api-Key",
                    "description": "Of `POST /api-keys`; also as `Authorization: ApiKey …`.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-aidevos_access",
                    "description": "From a login with `?cookie=true`; without the prefix on loopback without TLS. "
                    "What changes something needs the header `X-CSRF-Token` too.",
                },
            },
            "schemas": schemas,
            "parameters": _parameters() | _all("parameters"),
            "responses": {f"problem_{status}": _problem(status) for status in {code.status for code in CODES.values()}},
        },
    }


def _all(what: str) -> Json:
    """What every service's part says of it."""
    found: Json = {}
    for part in PARTS:
        found |= getattr(part, what, dict)()
    return found


def request_operation(*, operation_id: str, tag: str, summary: str, request: Json, response: Json) -> Json:
    """The description of `…/request`, for any type or for one."""
    return operation(
        operation_id,
        tag,
        summary,
        {"200": content("The method's result", response)},
        CHANGE,
        parameters=("Idempotency-Key", "If-Match", "Deadline", "traceparent"),
        body=request,
        description="Needs `objects:request`, and what the method itself asks for.",
    )


def _object_paths() -> Json:
    shown = reference("DurableObject")
    return {
        "/durable-objects": {
            "get": operation(
                "list_objects",
                "objects",
                "List objects by type and ID",
                {"200": content("One page", reference("ObjectPage"))},
                COMMON,
                parameters=("type", "of_project", "limit", "cursor", "Deadline"),
                description="Needs `objects:manage`. Without `type`, all types that are served now, one after another.",
            ),
            "post": operation(
                "create_object",
                "objects",
                "Make an object",
                {"201": content("The object", shown, LOCATION | ETAG)},
                CHANGE,
                parameters=CHANGING,
                body=reference("CreateBody"),
                description="Needs `objects:manage`. Without `name` a new ID is made.",
            ),
        },
        "/durable-objects/{object_id}": {
            **given("object_id"),
            "get": operation(
                "read_object",
                "objects",
                "Show an object",
                {"200": content("The object", shown, ETAG), **UNCHANGED},
                (*COMMON, 409, 412),
                parameters=READING,
                description="Needs `objects:manage`.",
            ),
            "put": operation(
                "replace_object",
                "objects",
                "Replace an object's state",
                {"200": content("The object", shown, ETAG)},
                CHANGE,
                parameters=CHANGING,
                body=reference("ReplaceBody"),
                description="Needs `objects:manage`, and a type that lets management write.",
            ),
            "delete": operation(
                "delete_object",
                "objects",
                "Delete an object",
                {"204": {"description": "Deleted"}},
                CHANGE,
                parameters=CHANGING,
                description="Needs `objects:manage`.",
            ),
        },
        "/durable-objects/{object_id}/request": {
            **given("object_id"),
            "post": request_operation(
                operation_id="request",
                tag="objects",
                summary="Call a method of an object",
                request=reference("RequestBody"),
                response=reference("Result"),
            ),
        },
    }


def _operation_paths() -> Json:
    well = content("All is well", {"type": "object", "properties": {"ok": {"const": True}}, "required": ["ok"]})
    return {
        "/health/live": {"get": open_operation("live", "Whether the gateway runs", {"200": well})},
        "/health/ready": {"get": open_operation("ready", "Whether the whole fleet can serve", {"200": well})},
        "/openapi.json": {
            "get": open_operation(
                "openapi",
                "This document",
                {"200": content("OpenAPI 3.1", {"type": "object"}), "304": {"description": "Not modified"}},
                parameters=("If-None-Match",),
            )
        },
        "/asyncapi.json": {
            "get": open_operation(
                "asyncapi",
                "The description of the NATS door",
                {"200": content("AsyncAPI 3.0", {"type": "object"}), "304": {"description": "Not modified"}},
                parameters=("If-None-Match",),
            )
        },
        "/docs": {
            "get": open_operation(
                "docs",
                "This document as a page",
                {"200": {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}},
            )
        },
        "/metrics": {
            "get": operation(
                "metrics",
                "operation",
                "Counters in Prometheus' text format",
                {"200": {"description": "Counters", "content": {"text/plain": {"schema": {"type": "string"}}}}},
                (401, 403, *OPEN),
                description="Needs `fleet:read`.",
            )
        },
    }


def open_operation(operation_id: str, summary: str, responses: Json, parameters: tuple[str, ...] = ()) -> Json:
    return operation(operation_id, "operation", summary, responses, OPEN, parameters) | {"security": []}


def _problem(status: int) -> Json:
    codes = [f"`{name}`: {code.title}" for name, code in CODES.items() if code.status == status]
    problem: Json = {
        "description": ". ".join(codes),
        "content": {MEDIA_TYPE: {"schema": reference("Problem")}},
    }
    if status in (429, 503):
        problem["headers"] = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}}
    return problem


def _schemas() -> Json:
    _, schemas = msgspec.json.schema_components(
        (objects.DurableObject, objects.ObjectPage, Problem), ref_template="#/components/schemas/{name}"
    )
    type = {"type": "string", "pattern": f"^{subjects.TYPE_PATTERN}$"}
    name = {"type": "string", "minLength": 1, "description": f"1 to {subjects.NAME_LIMIT} bytes"}
    state = {"type": "object", "description": "By the type's own schema"}
    project = {"type": "string", "pattern": f"^{subjects.ID_PATTERN}$", "description": "A project to belong to"}
    return schemas | {
        "CreateBody": body({"type": type, "name": name, "state": state, "project": project}, "type"),
        "ReplaceBody": body({"state": state}, "state"),
        "RequestBody": body(
            {
                "method": {"type": "string", "pattern": f"^{subjects.METHOD_PATTERN}$"},
                "args": {"type": "object", "description": "By the method's own schema", "default": {}},
            },
            "method",
        ),
        "Result": body({"result": {"description": "By the method's own schema"}}, "result"),
    }


def _parameters() -> Json:
    object_id = f"^{subjects.TYPE_PATTERN}:{subjects.ID_PATTERN}$"
    key = f"A repeat with the same key changes nothing; 1 to {REQUEST_ID_LIMIT} characters"
    return {
        "object_id": parameter("object_id", "path", object_id, "`<type>:<id>`"),
        "id": parameter("id", "path", f"^{subjects.ID_PATTERN}$", "The ID within the type"),
        "type": parameter("type", "query", f"^{subjects.TYPE_PATTERN}$", "Only objects of this type"),
        "limit": {
            "name": "limit",
            "in": "query",
            "description": "Objects on a page",
            "schema": {"type": "integer", "minimum": 1, "maximum": objects.LIST_LIMIT, "default": 50},
        },
        "cursor": parameter("cursor", "query", None, "The `next_cursor` of the page before"),
        "Idempotency-Key": parameter("Idempotency-Key", "header", f"^{headers.BARE_KEY}{{1,{REQUEST_ID_LIMIT}}}$", key),
        "If-Match": parameter("If-Match", "header", ENTITY_TAGS, "The version that is changed, as in `ETag`"),
        "If-None-Match": parameter("If-None-Match", "header", ENTITY_TAGS, "The version that the caller has"),
        "Deadline": {
            "name": "Deadline",
            "in": "header",
            "description": "Milliseconds that the caller waits",
            "schema": {"type": "integer", "minimum": 1},
        },
        "traceparent": parameter("traceparent", "header", None, "W3C Trace Context"),
    }
