"""The part of the API's description that is about live streams."""

from __future__ import annotations

from aidevos.contracts import data, subjects

from .live.wanted import MAX_VALUES
from .openapi_parts import COMMON, Json, operation, parameter

TAG: Json = {"name": "events", "description": "What happens, as it happens"}
ABOUT = """\
Needs `events:read`. Server-sent events (WHATWG HTML §9.2) without end, each for those who may know of it at the
moment: an item's for those who may read the item, a project's and its tasks' for its members, a user's own for the
user, and every other for those with `<type>:read`. `event` is the type, as `item.created`, `data` a CloudEvent 1.0,
and `id` the place in the stream, also alone, with which `Last-Event-ID` resumes. `event: gap` says that events since
then aren't kept any more, `event: end` why the stream ends: `draining`, `slow`, `unavailable` or `restarted`, after
which it can be resumed, `unauthenticated` or `forbidden`."""


def parameters() -> Json:
    return {
        "event_type": _several("type", subjects.TYPE_PATTERN, "Only events of objects of these types"),
        "event_collection": _several(
            "collection", data.COLLECTION_PATTERN, "Only events of items of these collections"
        ),
        "event_id": _several("id", subjects.ID_PATTERN, "Only events of the objects, or items, with these IDs"),
        "event_name": _several("name", subjects.METHOD_PATTERN, "Only events of these names, as `created`"),
        "room": parameter("room", "query", f"^{subjects.ID_PATTERN}$", "The ID of a `chat_room`, by default `lobby`"),
        "last_event_id": parameter(
            "last_event_id", "query", "^[0-9]{1,18}$", "As `Last-Event-ID`, which counts before it"
        ),
        "Last-Event-ID": parameter(
            "Last-Event-ID", "header", "^[0-9]{1,18}$", "The `id` behind which to resume; else from now on"
        ),
    }


def paths() -> Json:
    page: Json = {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}
    stream: Json = {
        "description": "The stream",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    wanted = ("event_type", "event_collection", "event_id", "event_name", "last_event_id", "Last-Event-ID")
    return {
        "/events": {
            "get": operation(
                "read_events", "events", "Follow events", {"200": stream}, COMMON, parameters=wanted, description=ABOUT
            )
        },
        "/examples/chat": {
            "get": operation(
                "chat", "events", "A page that lives from events", {"200": page}, (400, 404, 405, 422, 500), ("room",)
            )
            | {"security": []}
        },
    }


def _several(name: str, pattern: str, description: str) -> Json:
    values = f"^({pattern})(,({pattern})){{0,{MAX_VALUES - 1}}}$"
    return parameter(name, "query", values, f"{description}, with commas between")
