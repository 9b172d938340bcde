"""`aidevos webhooks`: events as requests to addresses of yours, and the log of their deliveries."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from typer import Argument, Option, Typer

from aidevos.cli.errors import INCOMPLETE, CommandError
from aidevos.cli.listing import NONE, Limit, at, given, parse_span, patch, path_of, print_secret
from aidevos.cli.output import Json, Yes, confirm, print_fields, print_json, print_rows
from aidevos.cli.remote import call, read_all
from aidevos.client.api import HttpApi

COLUMNS = {
    "ID": "id",
    "URL": "url",
    "EVENTS": "events",
    "ACTIVE": "active",
    "FAILING SINCE": at("failing_since"),
    "DESCRIPTION": "description",
}
DELIVERIES = {
    "ID": "id",
    "EVENT": "event_type",
    "OBJECT": "object_id",
    "STATUS": "status",
    "TRIES": "tries",
    "REASON": "reason",
    "CREATED": at("created_at"),
}
HOOKS = "/webhooks"
# Seconds for the first attempt of a test to end, and between two looks at it.
TESTED_WITHIN, LOOK_EVERY = 20.0, 0.2

Status = Literal["pending", "delivered", "failed"]
Hook = Annotated[str, Argument(metavar="WEBHOOK", help="The webhook's ID.")]
Events = Annotated[list[str], Argument(metavar="EVENT...", help="Events: item.created, all of item.*, or all: '*'.")]
Collections = Annotated[list[str] | None, Option("--collection", help="Only items of this collection. Repeatable.")]
Projects = Annotated[list[str] | None, Option("--project", help="Only events of this project ID. Repeatable.")]
app = Typer(help="Create, list, test or delete webhooks.")


@app.command("list")
def list_webhooks(
    owner: Annotated[str, Option(metavar="USER", help="Only webhooks of this user ID.", show_default=False)] = "",
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """List your webhooks; with `webhooks:manage`, everybody's.

    Example: aidevos webhooks list
    """
    params = given(owner=owner)
    print_rows(call(lambda api: read_all(api, HOOKS, params=params, limit=limit)), COLUMNS, as_json=as_json)


@app.command("get")
def get_webhook(id: Hook, as_json: Json = False) -> None:
    """Show a webhook, without its secret.

    Example: aidevos webhooks get 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    print_fields(call(lambda api: api.call("GET", path_of("webhooks", id))), as_json=as_json)


@app.command("create")
def create_webhook(
    url: Annotated[str, Argument(help="The address that gets the events.")],
    events: Events,
    collection: Collections = None,
    project: Projects = None,
    description: Annotated[str, Option(help="A text for people.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Create a webhook and print the secret that signs its requests, this once.

    Example: aidevos webhooks create https://example.org/hooks 'item.*' --collection orders
    """
    body = {"url": url, "events": events} | given(collections=collection, projects=project, description=description)
    _print_secret(call(lambda api: api.call("POST", HOOKS, body=body)), as_json=as_json)


@app.command("change")
def change_webhook(
    id: Hook,
    url: Annotated[str, Option(help="Another address.", show_default=False)] = "",
    event: Annotated[list[str] | None, Option(help="Events in place of the present ones. Repeatable.")] = None,
    collection: Collections = None,
    project: Projects = None,
    description: Annotated[str | None, Option(help="Another text for people.", show_default=False)] = None,
    active: Annotated[
        bool | None, Option("--active/--inactive", help="Send events, or keep still.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a webhook. What is given replaces what it had; `none` stands for no collection or project.

    Example: aidevos webhooks change 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c --event 'item.*' --event task.created
    """
    changes = given(url=url, events=event, collections=collection, projects=project, active=active)
    changes |= {field: [] for field in ("collections", "projects") if changes.get(field) == [NONE]}
    changes |= {} if description is None else {"description": description}
    if not changes:
        raise CommandError("say what to change, such as --url, --event or --inactive")

    async def work(api: HttpApi) -> Any:
        path = path_of("webhooks", id)
        return await patch(api, path, await api.call("GET", path), changes)

    print_fields(call(work), as_json=as_json)


@app.command("delete")
def delete_webhook(id: Hook, yes: Yes = False) -> None:
    """Delete a webhook with the log of its deliveries.

    Example: aidevos webhooks delete 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    confirm(f"Delete the webhook {id} with its log for good?", yes=yes)
    call(lambda api: api.call("DELETE", path_of("webhooks", id)))
    print(f"the webhook {id} is deleted")


@app.command()
def rotate_secret(
    id: Hook,
    overlap: Annotated[str, Option(metavar="TIME", help="How long the former secret signs too.")] = "1d",
    as_json: Json = False,
) -> None:
    """Replace the secret of a webhook by a new one, and print that, this once.

    Example: aidevos webhooks rotate-secret 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c --overlap 1h
    """
    body = {"overlap": parse_span(overlap, "--overlap")}
    _print_secret(
        call(lambda api: api.call("POST", path_of("webhooks", id, "rotate-secret"), body=body)), as_json=as_json
    )


@app.command("test")
def send_test(id: Hook, as_json: Json = False) -> None:
    """Send an event of the type webhook.test, and show what became of it. Status 3 unless it arrived.

    Example: aidevos webhooks test 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """

    async def work(api: HttpApi) -> Any:
        path = path_of("webhooks", id)
        sent = await api.call("POST", f"{path}/test")
        return await _until_tried(api, f"{path}/deliveries{path_of(sent['delivery_id'])}")

    delivery = call(work)
    print_fields(delivery, as_json=as_json)
    if delivery["status"] != "delivered":
        last = delivery["attempts"][-1] if delivery["attempts"] else {"status": None, "error": "no attempt yet"}
        raise CommandError(f"the test didn't arrive: {last['error'] or last['status']}", INCOMPLETE)


@app.command()
def deliveries(
    id: Hook,
    status: Annotated[Status | None, Option(help="Only deliveries with this status.", show_default=False)] = None,
    sort: Annotated[Literal["at", "-at"], Option(help="The order; a minus reverses it.")] = "-at",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the deliveries of a webhook, the newest first.

    Example: aidevos webhooks deliveries 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c --status failed
    """
    params, path = given(status=status, sort=sort), path_of("webhooks", id, "deliveries")
    print_rows(call(lambda api: read_all(api, path, params=params, limit=limit)), DELIVERIES, as_json=as_json)


@app.command()
def delivery(id: Hook, delivery: Annotated[str, Argument(help="The delivery's ID.")], as_json: Json = False) -> None:
    """Show a delivery with its attempts.

    Example: aidevos webhooks delivery 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c 6f1d…
    """
    print_fields(call(lambda api: api.call("GET", path_of("webhooks", id, "deliveries", delivery))), as_json=as_json)


@app.command()
def replay(
    id: Hook,
    delivery: Annotated[list[str] | None, Argument(metavar="[DELIVERY]...", help="The deliveries' IDs.")] = None,
    failed: Annotated[bool, Option("--failed", help="Replay all failed deliveries.")] = False,
) -> None:
    """Send deliveries once more, each under its ID.

    Example: aidevos webhooks replay 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c --failed
    """
    if bool(delivery) == failed:
        raise CommandError("name the deliveries, or say --failed")

    async def work(api: HttpApi) -> None:
        path = path_of("webhooks", id, "deliveries")
        found = await read_all(api, path, params={"status": "failed"}) if failed else []
        for each in delivery or [each["id"] for each in found]:
            await api.call("POST", path + path_of(each, "replay"))
            print(f"{each} is sent again", flush=True)

    call(work)


async def _until_tried(api: HttpApi, path: str) -> dict[str, Any]:
    """Return a delivery after its first attempt, or after `TESTED_WITHIN` seconds."""
    end = time.monotonic() + TESTED_WITHIN
    while True:
        found: dict[str, Any] = await api.call("GET", path)
        if found["attempts"] or found["status"] != "pending" or time.monotonic() > end:
            return found
        await asyncio.sleep(LOOK_EVERY)


def _print_secret(hook: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(hook)
    else:
        print_secret(hook["secret"], f"This is the secret of the webhook {hook['id']}. It is shown only this once.")
