"""`aidevos users`: accounts, their roles and their sessions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from typer import Argument, Option, Typer

from aidevos.cli.errors import NOT_FOUND, CommandError
from aidevos.cli.listing import Limit, at, given, patch, path_of, read_new_secret
from aidevos.cli.output import Json, Yes, confirm, print_fields, print_rows
from aidevos.cli.remote import call, read_all
from aidevos.client.api import HttpApi
from aidevos.client.errors import NotFound

COLUMNS = {"ID": "id", "USERNAME": "username", "E-MAIL": "email", "ROLES": "roles", "STATUS": "status"}
SESSIONS = {
    "ID": "id",
    "DEVICE": "device",
    "ADDRESS": "address",
    "SINCE": at("created_at"),
    "LAST USED": at("last_used_at"),
}
ME = "me"

Status = Literal["active", "deactivated"]
Sort = Literal["created_at", "-created_at", "username", "-username"]
User = Annotated[str, Argument(metavar="USER", help="A user's ID, name or e-mail address, or `me`.")]
app = Typer(help="List, create or change users.")


async def find_user(api: HttpApi, user: str) -> dict[str, Any]:
    """Return the user with this ID, name or e-mail address. Raises `CommandError` if there is none."""
    try:
        return dict(await api.call("GET", path_of("users", user)))
    except NotFound:
        if user == ME:
            raise
    for each in await read_all(api, "/users", params={"q": user}):
        if user.lower() in (each["username"].lower(), (each["email"] or "").lower()):
            return dict(each)
    raise CommandError(f"there is no user {user!r}; `aidevos users list` shows them", NOT_FOUND)


@app.command("list")
def list_users(
    search: Annotated[str, Option(help="Part of a name or an e-mail address.", show_default=False)] = "",
    role: Annotated[str, Option(help="Only users with this role.", show_default=False)] = "",
    status: Annotated[Status | None, Option(help="Only users with this status.", show_default=False)] = None,
    sort: Annotated[Sort, Option(help="The order; a minus reverses it.")] = "created_at",
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """List users.

    Example: aidevos users list --role admin
    """
    params = given(q=search, role=role, status=status, sort=sort)
    print_rows(call(lambda api: read_all(api, "/users", params=params, limit=limit)), COLUMNS, as_json=as_json)


@app.command("get")
def get_user(user: User, as_json: Json = False) -> None:
    """Show a user.

    Example: aidevos users get grace
    """
    print_fields(call(lambda api: find_user(api, user)), as_json=as_json)


@app.command("create")
def create_user(
    username: Annotated[str, Argument(help="The new user's name.")],
    email: Annotated[str, Argument(help="The new user's e-mail address.")],
    full_name: Annotated[str, Option(help="The name in full.", show_default=False)] = "",
    role: Annotated[list[str] | None, Option(help="A role besides `user`.")] = None,
    invite: Annotated[bool, Option("--invite", help="Let a mailed link set the password, instead of asking.")] = False,
    as_json: Json = False,
) -> None:
    """Create a user. The password is asked for, or is the first line of standard input.

    Example: aidevos users create grace grace@example.org --role clerk

    A mail asks the user to confirm the address. With --invite, it brings a link that sets the password and works once,
    for an hour; `aidevos users reset-password` sends another.
    """
    body = {"username": username, "email": email, "roles": _joined(["user"], role or [])}
    body |= given(full_name=full_name) | ({} if invite else {"password": read_new_secret("Password")})
    print_fields(call(lambda api: api.call("POST", "/users", body=body)), as_json=as_json)


@app.command("change")
def change_user(
    user: User,
    full_name: Annotated[str | None, Option(help="Another name in full.", show_default=False)] = None,
    add_role: Annotated[list[str] | None, Option(help="Give the user a role.")] = None,
    remove_role: Annotated[list[str] | None, Option(help="Take a role away.")] = None,
    as_json: Json = False,
) -> None:
    """Change a user's name or roles. Roles count everywhere within a second.

    Example: aidevos users change grace --add-role clerk --remove-role admin
    """

    async def work(api: HttpApi) -> Any:
        found = await find_user(api, user)
        changes: dict[str, Any] = {} if full_name is None else {"full_name": full_name}
        if add_role or remove_role:
            joined = _joined(found["roles"], add_role or [])
            changes["roles"] = [each for each in joined if each not in (remove_role or [])]
        if not changes:
            raise CommandError("say what to change: --full-name, --add-role or --remove-role")
        return await patch(api, path_of("users", found["id"]), found, changes)

    print_fields(call(work), as_json=as_json)


@app.command()
def deactivate(user: User, yes: Yes = False) -> None:
    """Log a user out everywhere, and refuse logins. The user's API keys end for good.

    Example: aidevos users deactivate grace
    """
    found = call(lambda api: find_user(api, user))
    confirm(f"Deactivate {_name(found)}, and end the user's sessions and API keys for good?", yes=yes)
    call(lambda api: api.call("POST", path_of("users", found["id"], "deactivate")))
    print(f"{_name(found)} is deactivated")


@app.command()
def activate(user: User) -> None:
    """Let a deactivated user log in again.

    Example: aidevos users activate grace
    """

    async def work(api: HttpApi) -> Any:
        found = await find_user(api, user)
        return await api.call("POST", path_of("users", found["id"], "activate"))

    print(f"{_name(call(work))} is active")


@app.command("delete")
def delete_user(user: User, yes: Yes = False) -> None:
    """Erase a user with profile, sessions, keys and webhooks, for good.

    Example: aidevos users delete grace
    """
    found = call(lambda api: find_user(api, user))
    confirm(f"Erase {_name(found)} for good, with everything that belongs to this user alone?", yes=yes)
    call(lambda api: api.call("DELETE", path_of("users", found["id"])))
    print(f"{_name(found)} is erased")


@app.command()
def reset_password(user: User) -> None:
    """Mail a user a link that sets a new password. It works once, for an hour.

    Example: aidevos users reset-password grace
    """

    async def work(api: HttpApi) -> str:
        found = await find_user(api, user)
        if not found["email"]:
            raise CommandError(f"{_name(found)} has no e-mail address")
        await api.call("POST", "/auth/password/reset", body={"email": found["email"]}, anonymous=True)
        return str(found["email"])

    print(f"a mail to {call(work)} is on its way")


@app.command()
def sessions(user: User = ME, as_json: Json = False) -> None:
    """List the sessions of a user: where the user is logged in.

    Example: aidevos users sessions grace
    """

    async def work(api: HttpApi) -> Any:
        found = await find_user(api, user)
        return await api.call("GET", path_of("users", found["id"], "sessions"))

    print_rows(call(work)["items"], SESSIONS, as_json=as_json)


@app.command()
def end_sessions(
    user: User,
    session: Annotated[list[str] | None, Argument(metavar="[SESSION]...", help="By default, all.")] = None,
) -> None:
    """Log a user out: everywhere, or of these sessions.

    Example: aidevos users end-sessions grace
    """

    async def work(api: HttpApi) -> None:
        path = path_of("users", (await find_user(api, user))["id"], "sessions")
        for each in [path + path_of(id) for id in session] if session else [path]:
            await api.call("DELETE", each)

    call(work)
    print(f"{len(session)} sessions have ended" if session else "all sessions have ended")


def _joined(present: list[str], added: list[str]) -> list[str]:
    return list(dict.fromkeys([*present, *added]))


def _name(user: dict[str, Any]) -> str:
    return f"{user['username']} ({user['id']})"
