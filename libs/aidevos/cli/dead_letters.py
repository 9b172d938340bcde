"""`aidevos dead-letters`: messages that couldn't be delivered."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from typer import Argument, Option, Typer

from aidevos.cli.errors import INCOMPLETE, CommandError
from aidevos.cli.listing import Limit, at, given, parse_past, path_of
from aidevos.cli.output import Json, Yes, confirm, print_fields, print_rows
from aidevos.cli.remote import call, read_all
from aidevos.client.api import HttpApi

COLUMNS = {
    "ID": "id",
    "AT": at("at"),
    "KIND": "kind",
    "STATUS": "status",
    "SOURCE": "source",
    "SUBJECT": "subject",
    "CODE": "code",
    "DETAIL": "detail",
}
LETTERS = "/dead-letters"
# Seconds in which a replay's outcome is known, and between two looks at it.
KNOWN_WITHIN, LOOK_EVERY = 30.0, 0.2

Kind = Literal["event", "tell", "alarm"]
Status = Literal["dead", "replaying", "replayed"]
Letters = Annotated[list[str], Argument(metavar="LETTER...", help="The letters' IDs.")]
app = Typer(help="List, replay or delete messages that couldn't be delivered.")


@app.command("list")
def list_letters(
    kind: Annotated[Kind | None, Option(help="Only letters of this kind.", show_default=False)] = None,
    status: Annotated[Status | None, Option(help="Only letters with this status.", show_default=False)] = None,
    source: Annotated[str, Option(metavar="TYPE:ID", help="Only letters of this object, or of this user's ID.")] = "",
    before: Annotated[str, Option(metavar="TIME", help="Only older ones: a time, or a span such as 2h ago.")] = "",
    sort: Annotated[Literal["at", "-at"], Option(help="The order; a minus reverses it.")] = "-at",
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first.

    Example: aidevos dead-letters list --status dead --source counter:clicks
    """
    params = given(kind=kind, status=status, source=source, sort=sort)
    params |= {"to": parse_past(before, "--before")} if before else {}
    print_rows(call(lambda api: read_all(api, LETTERS, params=params, limit=limit)), COLUMNS, as_json=as_json)


@app.command("get")
def get_letter(id: Annotated[str, Argument(metavar="LETTER", help="The letter's ID.")], as_json: Json = False) -> None:
    """Show a dead letter with its arguments.

    Example: aidevos dead-letters get 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    print_fields(call(lambda api: api.call("GET", path_of("dead-letters", id))), as_json=as_json)


@app.command("replay")
def replay_letters(ids: Letters, as_json: Json = False) -> None:
    """Send dead letters again, and show what became of them. Status 3 unless all have arrived.

    Example: aidevos dead-letters replay 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c

    A letter is applied at most once, however often it is replayed.
    """
    letters = call(lambda api: _replay_all(api, ids))
    print_rows(letters, COLUMNS, as_json=as_json)
    if left := [letter for letter in letters if letter["status"] != "replayed"]:
        raise CommandError(f"{len(left)} of {len(letters)} letters haven't arrived", INCOMPLETE)


@app.command("delete")
def delete_letters(ids: Letters, yes: Yes = False) -> None:
    """Delete dead letters for good.

    Example: aidevos dead-letters delete 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    confirm(f"Delete {', '.join(ids)} for good?", yes=yes)

    async def work(api: HttpApi) -> None:
        for id in ids:
            await api.call("DELETE", path_of("dead-letters", id))
            print(f"{id} is deleted", flush=True)

    call(work)


async def _replay_all(api: HttpApi, ids: list[str]) -> list[dict[str, Any]]:
    """Replay letters one after the other and return each with its outcome."""
    return [await _replay(api, path_of("dead-letters", id)) for id in ids]


async def _replay(api: HttpApi, path: str) -> dict[str, Any]:
    letter: dict[str, Any] = await api.call("POST", f"{path}/replay")
    end = time.monotonic() + KNOWN_WITHIN
    while letter["status"] == "replaying" and time.monotonic() < end:
        await asyncio.sleep(LOOK_EVERY)
        letter = await api.call("GET", path)
    return letter
