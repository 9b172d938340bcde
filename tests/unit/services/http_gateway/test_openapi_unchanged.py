"""The OpenAPI document against the one from before it was derived: the same operations, schemas and statuses.

Prose (`description`, `summary`, `title`) may change, and so may the place where a parameter is spelled out. Every
other difference is listed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aidevos import DurableObjectRegistry
from aidevos.contracts.objects import TypeDescription
from aidevos.contracts.routes import RouteInfo
from services.api_gateway.service import service as api_gateway
from services.authentication.service import service as authentication
from services.data_storage.service import service as data_storage
from services.events.service import service as events
from services.http_gateway.openapi import describe
from services.objects.service import service as objects
from services.projects.service import service as projects
from services.user_management.service import service as user_management
from tests.support.paths import VECTORS

SERVICES = (objects, authentication, user_management, data_storage, projects, api_gateway, events)
TYPES = [cls for service in SERVICES for cls in service.types]
BEFORE = VECTORS / "openapi" / "before.json"
PROSE = {"description", "summary", "title"}
# Where the document is meant to differ: a prefix of the paths in it → why.
INTENDED: dict[str, str] = {}
# Schemas whose models have another name since then: their content is compared under the new one.
RENAMED = {"ApiKeyInfo": "APIKey"}


def shipped() -> list[TypeDescription]:
    types = DurableObjectRegistry(TYPES).types
    return [types[name].description for name in sorted(types)]


def declared(method: str, path: str, object_method: str) -> RouteInfo:
    return RouteInfo(
        id=f"r-{object_method}",
        method=method,  # type: ignore[arg-type]
        path=path,
        object_type="counter",
        object_id="{name}",
        object_method=object_method,
        permission="counter:read",
        version=1,
        created_at="",
        updated_at="",
    )


def document() -> dict[str, Any]:
    routes = [declared("GET", "/shop/{name}", "value"), declared("POST", "/shop/{name}/hit", "increment")]
    made: dict[str, Any] = json.loads(json.dumps(describe(shipped(), routes)))
    return made


def resolved(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every operation's parameters at the operation, sorted and spelled out."""
    shared = document["components"].pop("parameters")
    for item in document["paths"].values():
        common = item.pop("parameters", [])
        for operation in item.values():
            given = [*common, *operation.pop("parameters", [])]
            spelled = [shared[one["$ref"].rpartition("/")[2]] if "$ref" in one else one for one in given]
            operation["parameters"] = {f"{one['in']} {one['name']}": one for one in spelled}
            assert len(operation["parameters"]) == len(spelled)
    document["tags"] = {tag["name"]: tag for tag in document["tags"]}
    document["info"].pop("version")
    return document


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What the document says, each beside its path in it."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            if not (name in PROSE and isinstance(inner, str)):
                yield from leaves(inner, f"{path}/{name.replace('/', '~1')}")
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{number}")
    else:
        yield path, value


def differences() -> set[str]:
    frozen = BEFORE.read_text()
    for old, new in RENAMED.items():
        frozen = frozen.replace(old, new)
    before = dict(leaves(resolved(json.loads(frozen))))
    now = dict(leaves(resolved(document())))
    absent = object()
    return {path for path in before.keys() | now.keys() if before.get(path, absent) != now.get(path, absent)}


def test_the_document_says_what_it_said_but_for_what_is_listed() -> None:
    unlisted = {path for path in differences() if not any(path.startswith(prefix) for prefix in INTENDED)}

    assert sorted(unlisted) == []


def test_every_listed_difference_is_there() -> None:
    found = differences()

    assert [prefix for prefix in INTENDED if not any(path.startswith(prefix) for path in found)] == []
