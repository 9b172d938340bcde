"""`/api-keys`."""

from __future__ import annotations

from aidevos.contracts import api_keys, subjects
from aidevos.contracts.api_keys import ApiKeyBody, ApiKeyInfo, ApiKeyPage, CreateApiKeyBody, NewApiKey, RotateBody

from .api_router import APIRouter
from .operation import Target, create, delete, get, in_path, patch, post
from .parameters import PAGE, text, variable

KEYS, KEY = "/api-keys", "/api-keys/{key_id}"
SEARCH = subjects.query(api_keys.TYPE, api_keys.SEARCH)
API_KEY = Target(api_keys.TYPE, in_path("key_id", "API key"))
OWNER = text("owner", "Only this user's, for callers with `keys:manage`", "^.{0,128}$")
SCOPES = "No scope may allow more than the caller may. Of a `project` the caller must be a maintainer or an owner."


class ApiKeyRouter(APIRouter):
    tag = "api-keys"
    about = "Keys for programs"
    needs = "Needs `keys:self`, and for others' keys `keys:manage`."
    variables = (variable("key_id", "A key's ID"),)
    rows = (
        get(KEYS, "list_api_keys", "List API keys", SEARCH, ApiKeyPage, query=(*PAGE, OWNER)),
        create(
            KEYS,
            "create_api_key",
            "Make an API key",
            api_keys.TYPE,
            NewApiKey,
            CreateApiKeyBody,
            secret=True,
            about=SCOPES,
        ),
        get(KEY, "read_api_key", "Show an API key", API_KEY, ApiKeyInfo),
        patch(KEY, "change_api_key", "Change a key", API_KEY, ApiKeyInfo, ApiKeyBody),
        delete(KEY, "revoke_api_key", "End a key everywhere, within a second", (API_KEY, "revoke")),
        post(
            f"{KEY}/rotate",
            "rotate_api_key",
            "Replace a key by another",
            (API_KEY, "rotate"),
            NewApiKey,
            RotateBody,
            optional=True,
            secret=True,
        ),
    )
