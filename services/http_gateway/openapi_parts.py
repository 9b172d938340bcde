"""The pieces that descriptions of endpoints are made of (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any

from aidevos.contracts.envelope import JSON

Json = dict[str, Any]

COMMON = (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504)
CHANGE = (*COMMON, 409, 412)
ETAG = {"ETag": {"description": "The object's version", "schema": {"type": "string"}}}


def operation(
    operation_id: str,
    tag: str,
    summary: str,
    responses: Json,
    failures: tuple[int, ...],
    parameters: tuple[str, ...] = (),
    body: Json | None = None,
    description: str = "",
) -> Json:
    refused = {str(status): {"$ref": f"#/components/responses/problem_{status}"} for status in sorted(failures)}
    described: Json = {
        "operationId": operation_id,
        "tags": [tag],
        "summary": summary,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in parameters],
        "responses": responses | refused | {"4XX": {"$ref": "#/components/responses/problem_422"}},
    }
    if description:
        described["description"] = description
    if body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return described


def content(description: str, schema: Json, headers: Json | None = None) -> Json:
    described: Json = {"description": description, "content": {JSON: {"schema": schema}}}
    return described | ({"headers": headers} if headers else {})


def parameter(name: str, place: str, pattern: str | None, description: str) -> Json:
    schema = {"type": "string"} | ({"pattern": pattern} if pattern else {})
    return {"name": name, "in": place, "required": place == "path", "description": description, "schema": schema}


def reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def body(properties: Json, *required: str) -> Json:
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
