"""`aidevos keys`: API keys, the credentials of programs."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument, Option, Typer

from aidevos.cli.errors import CommandError
from aidevos.cli.listing import (
    NONE,
    Limit,
    at,
    given,
    parse_moment,
    parse_rate,
    parse_span,
    patch,
    path_of,
    print_secret,
)
from aidevos.cli.output import Json, Yes, confirm, print_fields, print_json, print_rows
from aidevos.cli.remote import call, read_all
from aidevos.client.api import HttpApi

COLUMNS = {
    "ID": "id",
    "NAME": "name",
    "HINT": "hint",
    "SCOPES": "scopes",
    "EXPIRES": at("expires_at"),
    "LAST USED": at("last_used_at"),
}
KEYS = "/api-keys"

Key = Annotated[str, Argument(metavar="KEY", help="The key's ID; `aidevos keys list` shows it.")]
Scope = Annotated[list[str] | None, Option(help="A scope, such as data:read:collection=orders, or *. Repeatable.")]
Rate = Annotated[str, Option(metavar="COUNT/TIME", help="A rate limit of the key's own, such as 100/1m.")]
Expires = Annotated[str, Option(metavar="TIME", help="The end: a time, or a span from now, such as 30d.")]
Address = Annotated[list[str] | None, Option(help="A network from which it works, such as 10.0.0.0/8. Repeatable.")]
app = Typer(
    help="Create, list or revoke API keys.\n\nFor the keys that sign access tokens, see `aidevos signing-keys`."
)


@app.command("list")
def list_keys(
    owner: Annotated[str, Option(metavar="USER", help="Only keys of this user ID.", show_default=False)] = "",
    parent: Annotated[str, Option(metavar="KEY", help="Only keys that this key has made.", show_default=False)] = "",
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """List your API keys; with `keys:manage`, everybody's.

    Example: aidevos keys list
    """
    params = given(owner=owner, parent=parent)
    print_rows(call(lambda api: read_all(api, KEYS, params=params, limit=limit)), COLUMNS, as_json=as_json)


@app.command("get")
def get_key(id: Key, as_json: Json = False) -> None:
    """Show an API key, without its text.

    Example: aidevos keys get 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    print_fields(call(lambda api: api.call("GET", path_of("api-keys", id))), as_json=as_json)


@app.command("create")
def create_key(
    name: Annotated[str, Argument(help="A name by which you recognise it.")],
    scope: Scope = None,
    rate: Rate = "",
    expires: Expires = "",
    address: Address = None,
    project: Annotated[str, Option(metavar="ID", help="The project to which it is bound.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Create an API key and print it, this once.

    Example: aidevos keys create ci --scope data:read:collection=orders --expires 30d
    """
    if not scope:
        raise CommandError("name at least one --scope, such as data:read, or '*' for all that you may do")
    body = {"name": name, "scopes": scope} | _bounds(rate, expires, address) | given(project=project)
    _print_new(call(lambda api: api.call("POST", KEYS, body=body)), as_json=as_json)


@app.command("change")
def change_key(
    id: Key,
    name: Annotated[str, Option(help="Another name.", show_default=False)] = "",
    scope: Scope = None,
    rate: Rate = "",
    expires: Expires = "",
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Change an API key. What is given replaces what it had; `none` takes a bound away.

    Example: aidevos keys change 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c --rate 100/1m --expires none
    """
    changes = given(name=name, scopes=scope) | _bounds(rate, expires, address)
    if not changes:
        raise CommandError("say what to change: --name, --scope, --rate, --expires or --address")

    async def work(api: HttpApi) -> Any:
        path = path_of("api-keys", id)
        return await patch(api, path, await api.call("GET", path), changes)

    print_fields(call(work), as_json=as_json)


@app.command("rotate")
def rotate_key(
    id: Key,
    overlap: Annotated[str, Option(metavar="TIME", help="How long the former key still works, such as 1h.")] = "0",
    as_json: Json = False,
) -> None:
    """Replace an API key by a new one, and print that, this once.

    Example: aidevos keys rotate 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c --overlap 1h

    For the keys that sign access tokens, see `aidevos signing-keys rotate`.
    """
    body = {"overlap": parse_span(overlap, "--overlap")}
    _print_new(call(lambda api: api.call("POST", path_of("api-keys", id, "rotate"), body=body)), as_json=as_json)


@app.command("revoke")
def revoke_keys(
    ids: Annotated[list[str], Argument(metavar="KEY...", help="The keys' IDs.")],
    yes: Yes = False,
) -> None:
    """End API keys everywhere, with the keys that they have made.

    Example: aidevos keys revoke 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    confirm(f"Revoke {', '.join(ids)} for good?", yes=yes)

    async def work(api: HttpApi) -> None:
        for id in ids:
            await api.call("DELETE", path_of("api-keys", id))
            print(f"{id} is revoked", flush=True)

    call(work)


def _bounds(rate: str, expires: str, address: list[str] | None) -> dict[str, Any]:
    """Return the bounds that were given; `none` stands for none. Raises `CommandError`."""
    bounds: dict[str, Any] = {}
    if rate:
        bounds["limits"] = None if rate == NONE else parse_rate(rate, "--rate")
    if expires:
        bounds["expires_at"] = None if expires == NONE else parse_moment(expires, "--expires")
    if address:
        bounds["allowed_addresses"] = [] if address == [NONE] else address
    return bounds


def _print_new(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(key)
    else:
        print_secret(key["key"], f"This is the key {key['name']} ({key['id']}). It is shown only this once.")
