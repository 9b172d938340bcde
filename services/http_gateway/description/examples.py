"""Examples for the schemas of the gateway's own operations, chosen by field name.

An example has the required fields, or the first field if none is required. A field whose schema has a
`default`, `const` or `enum` needs no entry here.
"""

from __future__ import annotations

from typing import Any

from .paths import COMPONENTS, Json

MOMENT = "2026-11-23T08:00:00.000Z"
ID = "0193582f8c7e7a0c9d1e2f3a4b5c6d7e"
DEPTH = 6
OF_ANY_TYPE: Json = {"object": {}, "integer": 1, "number": 1.0, "boolean": True, "string": "text"}
# Keyed by field name, or by `<schema>.<field>` if the name means something else in one schema.
# fmt: off
FIELDS: Json = {
    **dict.fromkeys(("actor", "author", "created_by", "delivery_id", "id", "owner", "project", "session"), ID),
    **dict.fromkeys(("target", "user_id", "webhook_id"), ID),
    **dict.fromkeys(("at", "created_at", "last_used_at", "run_at", "started_at", "updated_at"), MOMENT),
    **dict.fromkeys(("RouteBody.method", "RouteInfo.method"), "POST"),
    **dict.fromkeys(("RouteBody.object_id", "RouteInfo.object_id"), "{name}"),
    **dict.fromkeys(("NewWebhook.key", "WebhookInfo.key", "reason"), ""),
    **dict.fromkeys(("collection", "name"), "orders"),
    **dict.fromkeys(("count", "version"), 1),
    **dict.fromkeys(("current_password", "password"), "wheelbarrow at noon"),
    **dict.fromkeys(("method", "object_method"), "increment"),
    **dict.fromkeys(("object_type", "type"), "counter"),
    "FieldError.field": "args.by", "FieldError.detail": "Expected `int`, got `str`",
    "Problem.status": 404, "detail": "there is nothing here", "title": "There is nothing here",
    "HostInfo.version": "0.1.0", "HostInfo.detail": "", "HostInfo.objects": 1200, "HostInfo.memory": 4_915_200,
    "service": "objects", "replica": 0, "incarnation": "host-objects-0.9f86d081884c7d65", "since": MOMENT,
    "partitions": {"counter": [0, 5]}, "variable": "AIDEVOS_PORT", "value": 8080, "origin": "default",
    "SettingList.settings": [{"variable": "AIDEVOS_PORT", "value": 8080, "origin": "default"}],
    "Problem.type": "/docs/errors#not-found", "BulkResult.status": 201,
    "Task.status": "queued", "NewWebhook.secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "access_token": "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.…",
    "action": "login", "address": "192.0.2.7", "allowed_addresses": ["192.0.2.0/24"], "challenge": "c1a2…",
    "code": "not-found", "csrf_token": "dGhlIHRva2VuIG9mIHRoZSBzZXNzaW9u", "data": {"title": "SICP", "price": 40},
    "description": "Nightly reports", "device": "Firefox on Linux", "email": "ada@example.org",
    "event_id": f"item:{ID}:7", "event_type": "item.created", "events": ["item.*"], "expires_in": 600,
    "full_name": "Ada Lovelace", "hint": "x7Qp", "key": "adk_…", "kind": "report",
    "new_password": "a lantern in the harbour", "object_id": "counter:clicks", "otp": "123456", "outcome": "success",
    "path": "/shop/{name}/hit", "payload": {"month": "2026-11"}, "permission": "counter:write",
    "permissions": ["data:read"], "policies": {"default": {"rate": 1000, "window": 1.0}}, "progress": 0.0,
    "qr_svg": "<svg/>", "recovery_codes": ["3f9k-x2mp-77qd"], "refresh_token": f"{ID}.….…", "removes": {"tasks": 3},
    "result": 2, "roles": ["user"], "scopes": ["data:read:collection=orders"], "secret": "JBSWY3DPEHPK3PXP",
    "settings": {"theme": "dark"}, "members": {ID: "owner"}, "state": {"value": 2}, "status": 200, "timeout": 60.0,
    "token": f"{ID}.…", "uri": "otpauth://totp/AIDevOS:ada?secret=JBSWY3DPEHPK3PXP&issuer=AIDevOS",
    "url": "https://example.org/hook", "username": "ada",
}
# fmt: on


def add_examples(schemas: Json) -> None:
    """Add an example to each object schema."""
    for name, schema in schemas.items():
        if "properties" in schema:
            schema["examples"] = [_object(name, schema, schemas, DEPTH)]


def _object(name: str, schema: Json, schemas: Json, depth: int) -> Json:
    properties: Json = schema.get("properties", {})
    wanted = schema.get("required") or list(properties)[:1]
    return {field: _field(name, field, properties[field], schemas, depth) for field in wanted}


def _field(name: str, field: str, schema: Json, schemas: Json, depth: int) -> Any:
    own = FIELDS.get(f"{name}.{field}")
    if own is not None:
        return own
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if "enum" in schema:
        return schema["enum"][0]
    return FIELDS[field] if field in FIELDS else _value(schema, schemas, depth)


def _value(schema: Json, schemas: Json, depth: int) -> Any:
    if "anyOf" in schema:
        return _value(schema["anyOf"][-1], schemas, depth)
    if "$ref" in schema and depth:
        name = schema["$ref"].removeprefix(COMPONENTS)
        return _object(name, schemas[name], schemas, depth - 1)
    kind = schema.get("type")
    if kind == "array":
        return [_value(schema["items"], schemas, depth)] if "items" in schema else []
    return OF_ANY_TYPE.get(kind) if isinstance(kind, str) else None
