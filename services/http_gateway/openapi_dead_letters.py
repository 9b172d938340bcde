"""The part of the API's description that is about dead letters."""

from __future__ import annotations

from typing import get_args

from aidevos.contracts import dead_letters, subjects

from .openapi_parts import (
    ETAG,
    UNCHANGED,
    Json,
    Section,
    content,
    given,
    parameter,
    reference,
    schemas_of,
)

TAG: Json = {"name": "dead letters", "description": "What couldn't be delivered"}
LETTERS = Section("dead letters", f"Needs `{dead_letters.MANAGE}`.")
SHOWN = content("The letter", reference("DeadLetter"), ETAG)


def schemas() -> Json:
    return schemas_of(dead_letters.LetterPage)


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
    narrowing = ("letter_kind", "letter_status", "letter_source", "letter_to", "letter_sort")
    return {
        "/dead-letters": {
            "get": LETTERS.reading(
                "list_dead_letters",
                "List what couldn't be delivered",
                {"200": content("One page", reference("LetterPage"))},
                ("limit", "cursor", *narrowing, "Deadline"),
                f"Without the arguments. {LETTERS.needs}",
            )
        },
        "/dead-letters/{letter_id}": {
            **given("letter_id"),
            "get": LETTERS.reading("read_dead_letter", "Show a letter", {"200": SHOWN} | UNCHANGED),
            "delete": LETTERS.changing(
                "delete_dead_letter", "Delete a letter", {"204": {"description": "The letter is gone"}}
            ),
        },
        "/dead-letters/{letter_id}/replay": {
            **given("letter_id"),
            "post": LETTERS.changing(
                "replay_dead_letter",
                "Send once more what a letter says",
                {"202": SHOWN},
                needs=f"What comes of it shows in the letter. What a client has sent is sent with the caller's rights."
                f" {LETTERS.needs}",
            ),
        },
    }


def _one_of(name: str, values: tuple[str, ...], description: str) -> Json:
    return parameter(name, "query", None, description) | {"schema": {"type": "string", "enum": list(values)}}
