"""The pieces that descriptions of endpoints are made of (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from aidevos.contracts.envelope import JSON

Json = dict[str, Any]

COMMON = (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504)
CHANGE = (*COMMON, 409, 412)
ETAG = {"ETag": {"description": "The object's version", "schema": {"type": "string"}}}
LOCATION = {"Location": {"schema": {"type": "string"}}}
UNCHANGED: Json = {"304": {"description": "Not modified", "headers": ETAG}}
# The headers that go with showing a version, and with a change.
READING = ("If-None-Match", "Deadline")
CHANGING = ("Idempotency-Key", "If-Match", "Deadline")


def schemas_of(*types: Any) -> Json:
    """The schemas of wire types and of all that is in them, by name."""
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return found


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
        **given(*parameters),
        "responses": responses | refused | {"4XX": {"$ref": "#/components/responses/problem_422"}},
    }
    if description:
        described["description"] = description
    if body is not None:
        described |= sent(body)
    return described


def given(*names: str) -> Json:
    """The parameters of an operation, or of all operations of a path."""
    return {"parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names]}


def sent(schema: Json, kind: str = JSON, *, required: bool = True) -> Json:
    """What an operation takes as its body."""
    return {"requestBody": {"required": required, "content": {kind: {"schema": schema}}}}


class Section(NamedTuple):
    """The operations of one tag, of which `needs` says what they need."""

    tag: str
    needs: str

    def reading(
        self, operation_id: str, summary: str, responses: Json, parameters: tuple[str, ...] = READING, needs: str = ""
    ) -> Json:
        return operation(
            operation_id, self.tag, summary, responses, COMMON, parameters, description=needs or self.needs
        )

    def changing(
        self,
        operation_id: str,
        summary: str,
        responses: Json,
        body: Json | None = None,
        parameters: tuple[str, ...] = CHANGING,
        needs: str = "",
    ) -> Json:
        return operation(operation_id, self.tag, summary, responses, CHANGE, parameters, body, needs or self.needs)


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
