"""POST requests that create something, each of which may be repeated under its `Idempotency-Key`."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.support.declared_routes import hit


class Kind(NamedTuple):
    """A POST that creates something: its path and body; `other` is a different body."""

    path: str
    body: Any
    other: Any


def kinds(name: str) -> dict[str, Kind]:
    keyed = {"name": name, "scopes": ["data:read"]}
    return {
        "an object": Kind("/durable-objects", {"type": "counter"}, {"type": "account"}),
        "a named object": Kind(
            "/durable-objects", {"type": "counter", "name": name}, {"type": "counter", "name": f"{name}-2"}
        ),
        "a role": Kind("/roles", {"name": name, "permissions": []}, {"name": f"{name}-2", "permissions": []}),
        "a route": Kind("/routes", hit(name), hit(name, path=f"/{name}/x", object_id="x")),
        "an API key": Kind("/api-keys", keyed, keyed | {"name": "other"}),
        "a project": Kind("/projects", {"name": name}, {"name": f"{name}-2"}),
        "an item": Kind(f"/data/collections/{name}", {"data": 1}, {"data": 2}),
        "a named item": Kind(f"/data/collections/{name}", {"id": "one", "data": 1}, {"id": "two", "data": 1}),
        "items": Kind(f"/data/collections/{name}", [{"data": 1}, {"id": "x", "data": 2}], [{"data": 1}]),
    }
