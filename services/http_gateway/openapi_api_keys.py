"""The part of the API's description that is about API keys."""

from __future__ import annotations

from aidevos.contracts import api_keys

from .bodies import MERGE_PATCH
from .openapi_parts import (
    ETAG,
    LOCATION,
    Json,
    Section,
    content,
    given,
    parameter,
    reference,
    schemas_of,
    sent,
)

TAG: Json = {"name": "api-keys", "description": "Keys for programs"}
KEYS = Section("api-keys", "Needs `keys:self`, and for others' keys `keys:manage`.")
SHOWN: Json = {"200": content("The key", reference("APIKey"), ETAG)}
MAKING = (
    "Needs `keys:self`; no scope may allow more than the caller may, who with a `project` is one of its maintainers"
    " or owners."
)


def schemas() -> Json:
    return schemas_of(
        api_keys.ApiKeyBody,
        api_keys.CreateApiKeyBody,
        api_keys.RotateBody,
        api_keys.ApiKeyPage,
        api_keys.NewApiKey,
    )


def parameters() -> Json:
    return {
        "key_id": parameter("key_id", "path", None, "A key's ID"),
        "key_owner": parameter("owner", "query", "^.{0,128}$", "Only this user's, for those with `keys:manage`"),
    }


def paths() -> Json:
    page = {"200": content("One page", reference("ApiKeyPage"))}
    made = {"201": content("The key, shown this once", reference("NewApiKey"), ETAG | LOCATION)}
    rotated = {"200": content("The key, shown this once", reference("NewApiKey"), ETAG)}
    return {
        "/api-keys": {
            "get": KEYS.reading("list_api_keys", "List API keys", page, ("limit", "cursor", "key_owner", "Deadline")),
            "post": KEYS.changing(
                "create_api_key",
                "Make an API key",
                made,
                reference("CreateApiKeyBody"),
                ("Idempotency-Key", "Deadline"),
                MAKING,
            ),
        },
        "/api-keys/{key_id}": {
            **given("key_id"),
            "get": KEYS.reading("read_api_key", "Show an API key", SHOWN, ("Deadline",)),
            "patch": KEYS.changing("change_api_key", "Change a key by a merge patch (RFC 7396)", SHOWN)
            | sent({"type": "object"}, MERGE_PATCH),
            "delete": KEYS.changing(
                "revoke_api_key", "End a key everywhere, within a second", {"204": {"description": "Ended"}}
            ),
        },
        "/api-keys/{key_id}/rotate": {
            **given("key_id"),
            "post": KEYS.changing("rotate_api_key", "Make another key in a key's place", rotated)
            | sent(reference("RotateBody"), required=False),
        },
    }
