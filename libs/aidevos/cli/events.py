"""`aidevos events`: live events of the fleet in use."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option, Typer

from aidevos.cli.output import Json, print_line, printable, shown
from aidevos.cli.remote import call

app = Typer(help="Follow events as they happen.")


@app.callback()
def events() -> None:
    """Keep `tail` a command of the group, although it is the only one."""


@app.command()
def tail(
    type: Annotated[list[str] | None, Option(help="Only events of objects of this type.")] = None,
    collection: Annotated[list[str] | None, Option(help="Only events of items of this collection.")] = None,
    id: Annotated[list[str] | None, Option(help="Only events of the object, or item, with this ID.")] = None,
    name: Annotated[list[str] | None, Option(help="Only events with this name, such as created.")] = None,
    after: Annotated[
        str, Option(metavar="POSITION", help="Begin after this position in the stream.", show_default=False)
    ] = "",
    count: Annotated[int, Option("--count", "-n", min=0, help="End after so many events; 0 for never.")] = 0,
    as_json: Json = False,
) -> None:
    """Show events as they happen, until Ctrl-C.

    Example: aidevos events tail --type chat_room --name posted

    Options may be repeated. With --json, each event is one line: its position, its type, and a CloudEvent as data.
    """
    given = {"type": type, "collection": collection, "id": id, "name": name}

    async def follow(api: Any) -> None:
        left = count
        async for event in api.events(params=given, last_event_id=after or None):
            _show(event, as_json=as_json)
            left -= 1
            if not left:
                return

    call(follow)


def _show(event: Any, *, as_json: bool) -> None:
    if as_json:
        print_line(event._asdict())
        return
    content = event.data if isinstance(event.data, dict) else {}
    time, source = content.get("time", ""), content.get("source", "").rpartition("/")[2]
    print(printable(f"{time:24}  {event.type}  {source}  {shown(content.get('data'))}"), flush=True)
