"""`/dead-letters`: what couldn't be delivered."""

from __future__ import annotations

from typing import get_args

from aidevos.contracts import dead_letters, subjects
from aidevos.contracts.dead_letters import DeadLetter, LetterPage

from .api_router import APIRouter
from .operation import Target, delete, get, in_path, post
from .parameters import ID_PATTERN, PAGE, moment, one_of, text, variable

LETTERS, LETTER = "/dead-letters", "/dead-letters/{letter_id}"
SEARCH = subjects.query(dead_letters.TYPE, dead_letters.SEARCH)
DEAD_LETTER = Target(dead_letters.TYPE, in_path("letter_id", "letter"))
FILTERS = (
    one_of("kind", get_args(dead_letters.Kind), "Only letters of this kind"),
    one_of("status", get_args(dead_letters.Status), "Only letters of this status"),
    text("source", "Only from this object, as `<type>:<id>`, or this user", "^.{0,200}$"),
    moment("to", "The moment after the last one"),
    one_of("sort", ("at", "-at"), "By time; with a minus (the default) the newest first"),
)
REPLAYED = "The letter shows what comes of it. What a client has sent is sent with the caller's rights."
SHORT = "The list leaves out the arguments."


class DeadLetterRouter(APIRouter):
    tag = "dead letters"
    about = "What couldn't be delivered"
    needs = f"Needs `{dead_letters.MANAGE}`."
    variables = (variable("letter_id", "A letter's ID", ID_PATTERN),)
    rows = (
        get(
            LETTERS, "list_dead_letters", "List dead letters", SEARCH, LetterPage, query=(*PAGE, *FILTERS), about=SHORT
        ),
        get(LETTER, "read_dead_letter", "Show a letter", DEAD_LETTER, DeadLetter),
        delete(LETTER, "delete_dead_letter", "Delete a letter", (DEAD_LETTER, "remove")),
        post(
            f"{LETTER}/replay",
            "replay_dead_letter",
            "Send a letter once more",
            (DEAD_LETTER, "replay"),
            DeadLetter,
            status=202,
            about=REPLAYED,
        ),
    )
