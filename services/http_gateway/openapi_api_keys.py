"""The part of the API's description that is about API keys."""

from __future__ import annotations

import msgspec

from aidevos.contracts import api_keys
from aidevos.contracts.envelope import JSON
from services.http_gateway.bodies import MERGE_PATCH
from services.http_gateway.openapi_parts import CHANGE, COMMON, ETAG, Json, content, operation, parameter, reference

TAG: Json = {"name": "api-keys", "description": "Keys for programs"}
MADE_HEADERS = {**ETAG, "Location": {"schema": {"type": "string"}}}
CHANGED: Json = {"200": content("The key", reference("ApiKeyInfo"), ETAG)}
GONE: Json = {"204": {"description": "Ended"}}
KEY_PATH: Json = {"parameters": [{"$ref": "#/components/parameters/key_id"}]}
OWN = "Needs `keys:self`, and for others' keys `keys:manage`."


def schemas() -> Json:
    types = (
        api_keys.ApiKeyBody,
        api_keys.CreateApiKeyBody,
        api_keys.RotateBody,
        api_keys.ApiKeyPage,
        api_keys.NewApiKey,
    )
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return found


def parameters() -> Json:
    return {
        "key_id": parameter("key_id", "path", None, "A key's ID"),
        "key_owner": parameter("owner", "query", "^.{0,128}$", "Only this user's, for those with `keys:manage`"),
    }


def paths() -> Json:
    return {
        "/api-keys": {
            "get": operation(
                "list_api_keys",
                "api-keys",
                "List API keys",
                {"200": content("One page", reference("ApiKeyPage"))},
                COMMON,
                parameters=("limit", "cursor", "key_owner", "Deadline"),
                description=OWN,
            ),
            "post": operation(
                "create_api_key",
                "api-keys",
                "Make an API key",
                {"201": content("The key, shown this once", reference("NewApiKey"), MADE_HEADERS)},
                CHANGE,
                parameters=("Idempotency-Key", "Deadline"),
                body=reference("CreateApiKeyBody"),
                description="Needs `keys:self`; no scope may allow more than the caller may, who with a"
                " `project` is one of its maintainers or owners.",
            ),
        },
        "/api-keys/{key_id}": KEY_PATH
        | {
            "get": operation(
                "read_api_key",
                "api-keys",
                "Show an API key",
                CHANGED,
                COMMON,
                parameters=("Deadline",),
                description=OWN,
            ),
            "patch": _changing("change_api_key", "Change a key by a merge patch (RFC 7396)")
            | {"requestBody": {"required": True, "content": {MERGE_PATCH: {"schema": {"type": "object"}}}}},
            "delete": _changing("revoke_api_key", "End a key everywhere, within a second", GONE),
        },
        "/api-keys/{key_id}/rotate": KEY_PATH
        | {
            "post": operation(
                "rotate_api_key",
                "api-keys",
                "Make another key in a key's place",
                {"200": content("The key, shown this once", reference("NewApiKey"), ETAG)},
                CHANGE,
                parameters=("Idempotency-Key", "If-Match", "Deadline"),
                description=OWN,
            )
            | {"requestBody": {"required": False, "content": {JSON: {"schema": reference("RotateBody")}}}}
        },
    }


def _changing(operation_id: str, summary: str, responses: Json = CHANGED) -> Json:
    return operation(
        operation_id,
        "api-keys",
        summary,
        responses,
        CHANGE,
        parameters=("Idempotency-Key", "If-Match", "Deadline"),
        description=OWN,
    )
