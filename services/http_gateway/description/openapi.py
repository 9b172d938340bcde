"""The OpenAPI 3.1 document: the gateway's operations, each announced type, and declared routes.

A type gets a tag, schemas for its state and for each method's request, arguments and result, and its
own path: `/durable-objects/<type>:{id}/request`, which spells out the generic one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version

import msgspec

from aidevos.contracts.envelope import JSON
from aidevos.contracts.errors import CODES, MEDIA_TYPE, Problem
from aidevos.contracts.objects import TypeDescription
from aidevos.contracts.routes import RouteInfo, variables

from ..endpoints.operation import Operation, Text
from ..endpoints.routers import ROUTERS
from ..http.parameters import SHARED, Parameter
from . import fleet
from .examples import add_examples
from .paths import COMPONENTS, Json, Schemas, describe_operation, reference

ABOUT = """\
Durable objects over HTTP. Every error is a problem document (RFC 9457) with a stable `code`, and every
response carries `X-Request-Id`. Send a token as `Authorization: Bearer …`; `aidevos token` prints one."""
# fmt: off
SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key",
                "description": "A key from `POST /api-keys`, or as `Authorization: Bearer …` or `ApiKey …`."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-aidevos_access",
               "description": "Set by a login with `?cookie=true`; on loopback without TLS, it has no prefix. Changes "
               "also require the header `X-CSRF-Token`."},
}
_TEXT = {"type": "string"}
_CLOUD_EVENT = {"id": _TEXT, "source": _TEXT, "type": _TEXT, "time": _TEXT, "data": {"type": "object"}}
_EVENT = {"type": "object", "description": "CloudEvents 1.0", "properties": _CLOUD_EVENT,
          "required": ["id", "source", "type", "time", "data"]}
# The requests that receivers of webhooks get.
RECEIVED: Json = {"event": {"post": {
    "operationId": "receive_event", "tags": ["webhooks"], "summary": "Receive an event, signed as in Standard Webhooks",
    "parameters": [Parameter(name, about, _TEXT, "header", required=True).describe() for name, about in (
        ("webhook-id", "The delivery's ID, the same for every attempt"),
        ("webhook-timestamp", "The time of sending, in seconds since the epoch"),
        ("webhook-signature", "`v1,<base64>`; several, separated by spaces, while a secret is rotated"),
    )],
    "requestBody": {"required": True, "content": {JSON: {"schema": _EVENT}}},
    "responses": {
        "2XX": {"description": "The event has arrived"},
        "410": {"description": "The receiver wants no more events: the webhook becomes inactive"},
        "default": {"description": "The event is sent again later"},
    },
    "security": [],
}}}
# fmt: on


def describe(announced: Iterable[TypeDescription], declared: Sequence[RouteInfo] = (), internal: bool = False) -> Json:
    """Return the whole document. Internal types are left out by default."""
    shown = [each for each in announced if internal or not each.internal]
    schemas = _schemas()
    paths: Json = {}
    for router in ROUTERS:
        about = {variable.name: variable for variable in router.variables}
        for row in router.operations:
            item = paths.setdefault(row.path, {"parameters": [about[name].describe() for name in variables(row.path)]})
            item[row.method.lower()] = describe_operation(row, router.tag, schemas)
    add_examples(schemas.components)
    tags = {router.tag: router.about for router in ROUTERS if router.about} | fleet.tags(shown)
    paths |= fleet.paths(shown, schemas) | fleet.declared_paths(declared, shown, schemas)
    if shown:
        schemas.components["CreateBody"]["properties"]["type"] |= {"enum": [each.type for each in shown]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "AIDevOS", "version": version("aidevos"), "description": ABOUT},
        "tags": [{"name": name, "description": about} for name, about in tags.items()],
        "security": [{name: []} for name in SECURITY],
        "paths": paths,
        "webhooks": RECEIVED,
        "components": {
            "securitySchemes": SECURITY,
            "schemas": schemas.components | fleet.schemas(shown),
            "parameters": {name: parameter.describe() for name, parameter in SHARED.items()},
            "responses": {f"problem_{status}": _problem(status) for status in {code.status for code in CODES.values()}},
        },
    }


def _schemas() -> Schemas:
    """Return the schemas of all bodies of the gateway's own operations."""
    spelled = {name: schema for router in ROUTERS for name, schema in router.schemas.items()}
    found = {each: None for router in ROUTERS for each in (*router.types, *_bodies(router.operations))}
    derived = [each for each in found if getattr(each, "__name__", "") not in spelled]
    schemas, components = msgspec.json.schema_components((*derived, Problem), ref_template=COMPONENTS + "{name}")
    by_type = dict(zip(derived, schemas, strict=False)) | {
        each: reference(each.__name__) for each in found if each not in derived
    }
    copies: Json = msgspec.json.decode(msgspec.json.encode(spelled))
    return Schemas(by_type, components | copies)


def _bodies(rows: Iterable[Operation]) -> Iterable[object]:
    for row in rows:
        for each in (row.body, row.changes, row.response, *row.others.values()):
            for alternative in each if isinstance(each, tuple) and not isinstance(each, Text) else (each,):
                if alternative is not None and not isinstance(alternative, Text | dict):
                    yield alternative


def _problem(status: int) -> Json:
    codes = [f"`{name}`: {code.title}" for name, code in CODES.items() if code.status == status]
    content = {MEDIA_TYPE: {"schema": reference("Problem")}}
    problem: Json = {"description": ". ".join(codes), "content": content}
    if status in (429, 503):
        problem["headers"] = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}}
    return problem
