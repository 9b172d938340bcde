"""The OpenAPI operation object of a row."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from aidevos.contracts.envelope import JSON
from aidevos.contracts.errors import MEDIA_TYPE

from ..endpoints.operation import Access, Operation, Text, has_version
from ..http.bodies import JSON_PATCH
from ..http.parameters import SHARED, Parameter
from ..live.endless_body import EVENT_STREAM

Json = dict[str, Any]
COMPONENTS = "#/components/schemas/"
# Failure statuses of every operation, of those that call an object, and of those that know their caller.
OWN = {400, 404, 405, 422, 500, 503}
CALL = OWN | {408, 413, 415, 429, 504}
KNOWN = CALL | {401, 403}
ETAG = {"ETag": {"description": "The object's version", "schema": {"type": "string"}}}
LOCATION = {"Location": {"schema": {"type": "string"}}}
SECURITY: dict[Access | None, list[Json]] = {Access.PUBLIC: [], Access.OPEN: [], Access.OPTIONAL: [{"bearer": []}, {}]}


class Schemas(NamedTuple):
    """The schemas of body types, and the components that they refer to by name."""

    by_type: dict[Any, Json]
    components: Json

    def of(self, body: Any) -> Json:
        """Return the schema of a type, of several alternatives, or of a value that is already a schema."""
        if isinstance(body, Text):
            # Readers of a stream judge each of its events by the schema. Those of `/events` have many types.
            return {} if body.media == EVENT_STREAM else {"type": "string"}
        if isinstance(body, tuple):
            return {"oneOf": [self.of(each) for each in body]}
        return body if isinstance(body, dict) else self.by_type[body]


def reference(component: str) -> Json:
    return {"$ref": COMPONENTS + component}


def describe_operation(row: Operation, tag: str, schemas: Schemas) -> Json:
    """Return the operation object of a row."""
    headers = [{"$ref": f"#/components/parameters/{name}"} for name in row.headers or ()]
    failures = sorted(_failures(row) - row.others.keys())
    refused = {f"{status}": {"$ref": f"#/components/responses/problem_{status}"} for status in failures}
    found: Json = {
        "operationId": row.id,
        "tags": [tag],
        "summary": row.summary,
        "parameters": [*map(_parameter, row.query), *headers],
        "responses": _successes(row, schemas) | refused | {"4XX": {"$ref": "#/components/responses/problem_422"}},
    }
    if row.access in SECURITY:
        found["security"] = SECURITY[row.access]
    about = f"{row.about} {row.needs}".strip()
    if about:
        found["description"] = about
    if row.body is not None:
        found["requestBody"] = {"required": not row.optional, "content": _content(row, schemas)}
    return found


def _parameter(parameter: Parameter) -> Json:
    shared = SHARED.get(parameter.name) is parameter
    return {"$ref": f"#/components/parameters/{parameter.name}"} if shared else parameter.describe()


def _failures(row: Operation) -> set[int]:
    if row.access is Access.PUBLIC:
        usual = OWN
    elif row.access is Access.OPEN:
        usual = OWN | {429} if row.method == "GET" else CALL | {409}
    else:
        usual = KNOWN if row.method == "GET" else KNOWN | {409, 412}
    return usual | set(row.failures)


def _successes(row: Operation, schemas: Schemas) -> Json:
    responses = {row.status: row.response, **row.others}
    found: Json = {f"{status}": _response(row, status, response, schemas) for status, response in responses.items()}
    if row.is_conditional:
        found["304"] = {"description": "Not modified"} | ({"headers": ETAG} if row.is_versioned else {})
    return found


def _response(row: Operation, status: int, response: Any, schemas: Schemas) -> Json:
    found: Json = {"description": row.returns or _about(response)}
    if response is not None:
        media = response.media if isinstance(response, Text) else JSON
        found["content"] = {media: {"schema": schemas.of(response)}}
    if status >= 400:
        found["content"][MEDIA_TYPE] = {"schema": reference("Problem")}
    headers: Json = {
        **(ETAG if has_version(response) else {}),
        **(LOCATION if row.location and status == row.status else {}),
    }
    return found | ({"headers": headers} if headers else {})


def _about(response: Any) -> str:
    """Return a body's description, made from its type's name: `NewWebhook` becomes "The new webhook"."""
    if response is None:
        return "Done"
    name = getattr(
        response[0] if isinstance(response, tuple) and not isinstance(response, Text) else response, "__name__", ""
    )
    if name.endswith("Page"):
        return "One page"
    return "The " + re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower() if name and name != "dict" else "The document"


def _content(row: Operation, schemas: Schemas) -> Json:
    media = row.patches or ((row.body.media,) if isinstance(row.body, Text) else (JSON,))
    example = {} if row.example is None else {"example": row.example}
    operations = {"type": "array", "items": {"type": "object"}}
    return {each: {"schema": operations if each == JSON_PATCH else schemas.of(row.body)} | example for each in media}
