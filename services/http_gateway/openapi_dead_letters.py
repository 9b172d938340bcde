"""The part of the API's description that is about dead letters."""

from __future__ import annotations

from typing import get_args

import msgspec

from aidevos.contracts import dead_letters, subjects
from services.http_gateway.openapi_parts import (
    CHANGE,
    COMMON,
    ETAG,
    Json,
    content,
    operation,
    parameter,
    reference,
)

TAG: Json = {"name": "dead letters", "description": "What couldn't be delivered"}
NEEDED = f"Needs `{dead_letters.MANAGE}`."
SHOWN = content("The letter", reference("DeadLetter"), ETAG)


def schemas() -> Json:
    _, found = msgspec.json.schema_components((dead_letters.LetterPage,), ref_template="#/components/schemas/{name}")
    return found


def parameters() -> Json:
    source = parameter("source", "query", "^.{0,200}$", "Only from this object, as `<type>:<id>`, or this user")
    until = parameter("to", "query", None, "The moment after the last one, RFC 3339 with an offset")
    return {
        "letter_id": parameter("letter_id", "path", f"^{subjects.ID_PATTERN}$", "A letter's ID"),
        "letter_kind": _one_of("kind", get_args(dead_letters.Kind), "Only letters of this kind"),
        "letter_status": _one_of("status", get_args(dead_letters.Status), "Only letters of which this is so"),
        "letter_source": source,
        "letter_to": until | {"schema": {"type": "string", "format": "date-time"}},
        "letter_sort": _one_of("sort", ("at", "-at"), "By time, with a minus (the default) the newest first"),
    }


def paths() -> Json:
    unchanged = {"304": {"description": "Not modified", "headers": ETAG}}
    changing = ("Idempotency-Key", "If-Match", "Deadline")
    narrowing = ("letter_kind", "letter_status", "letter_source", "letter_to", "letter_sort")
    return {
        "/dead-letters": {
            "get": operation(
                "list_dead_letters",
                "dead letters",
                "List what couldn't be delivered",
                {"200": content("One page", reference("LetterPage"))},
                COMMON,
                parameters=("limit", "cursor", *narrowing, "Deadline"),
                description=f"Without the arguments. {NEEDED}",
            )
        },
        "/dead-letters/{letter_id}": {
            "parameters": [{"$ref": "#/components/parameters/letter_id"}],
            "get": operation(
                "read_dead_letter",
                "dead letters",
                "Show a letter",
                {"200": SHOWN} | unchanged,
                COMMON,
                parameters=("If-None-Match", "Deadline"),
                description=NEEDED,
            ),
            "delete": operation(
                "delete_dead_letter",
                "dead letters",
                "Delete a letter",
                {"204": {"description": "The letter is gone"}},
                CHANGE,
                parameters=changing,
                description=NEEDED,
            ),
        },
        "/dead-letters/{letter_id}/replay": {
            "parameters": [{"$ref": "#/components/parameters/letter_id"}],
            "post": operation(
                "replay_dead_letter",
                "dead letters",
                "Send once more what a letter says",
                {"202": SHOWN},
                CHANGE,
                parameters=changing,
                description=f"What comes of it shows in the letter. What a client has sent is sent with the caller's "
                f"rights. {NEEDED}",
            ),
        },
    }


def _one_of(name: str, values: tuple[str, ...], description: str) -> Json:
    return parameter(name, "query", None, description) | {"schema": {"type": "string", "enum": list(values)}}
