"""`aidevos token` and `aidevos tokens`: access tokens for scripts on the machine of the fleet.

Whoever can read the home's signing key may issue tokens. The running fleet records each of them before it is printed.
"""

from __future__ import annotations

import time
from typing import Annotated

from typer import Argument, Option, Typer

from aidevos.cli.errors import UNAUTHORISED, CommandError
from aidevos.cli.output import Column, Json, print_rows
from aidevos.cli.owner import call_fleet
from aidevos.cli.remote import call, read_all
from aidevos.cli.target import is_local, signing_key
from aidevos.client.api import HttpApi
from aidevos.contracts import access_tokens, subjects
from aidevos.contracts.authentication import TOKEN_LIFETIME
from aidevos.process.fleet import load_fleet
from aidevos.quantities import parse_time
from aidevos.security.keys import keep_until
from aidevos.security.permissions import ROLES
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import load

SUBJECT, LIFETIME = "cli", "15m"
# The longest life of a token, in seconds.
LONGEST_LIFE = 10 * 365 * 86_400.0


app = Typer(help="List or revoke the tokens that `aidevos token` has printed.")


def token(
    role: Annotated[list[str], Option(help="A role of the subject, for example admin.")] = [],  # noqa: B006
    permission: Annotated[list[str], Option(help="A permission beyond those of the roles.")] = [],  # noqa: B006
    subject: Annotated[str, Option(help="The token's subject.")] = SUBJECT,
    lifetime: Annotated[str, Option(metavar="TIME", help="The token's life, in seconds or like 30d.")] = LIFETIME,
) -> None:
    """Print an access token.

    For the fleet under AIDEVOS_HOME, it signs a new token, and registers it over NATS. For any other, it prints the one
    with which commands call, and takes no options.

    Example: curl -H "Authorization: Bearer $(aidevos token --role admin)" …
    """
    if is_local():
        print(issue(role, permission, subject, _read_lifetime(lifetime)))
    elif role or permission or (subject, lifetime) != (SUBJECT, LIFETIME):
        raise CommandError(
            "a token with roles, permissions, a subject or a lifetime is issued where the fleet's home is"
        )
    else:
        print(call(_find_token))


def issue(roles: list[str], permissions: list[str], subject: str, seconds: float) -> str:
    """Return a new token of the fleet on this machine, which has recorded it. Raises `CommandError`."""
    for each in roles:
        if each not in ROLES:
            raise CommandError(f"there is no role {each!r}; known roles: {', '.join(sorted(ROLES))}")
    home, id, now = load().home, subjects.new_id(), int(time.time())
    key, fleet = signing_key(home), load_fleet(home)
    if seconds > TOKEN_LIFETIME:
        keep_until(home, key.id, now + seconds)
    issued = TokenIssuer(key, fleet.public_url).issue(
        subject,
        roles=tuple(roles),
        permissions=tuple(permissions),
        lifetime=seconds,
        issued_at=now,
        record=id,
    )
    recorded = {"subject": subject, "roles": roles, "permissions": permissions, "expires_at": now + int(seconds)}
    call_fleet(lambda client: client.call(access_tokens.TYPE, id, "register", **recorded))
    return issued


async def _find_token(api: HttpApi) -> str:
    if isinstance(api.token, str):
        return api.token
    if api.token is None:
        raise CommandError(f"there is no login at {api.url}: run `aidevos login {api.url}`", UNAUTHORISED)
    return await api.token()


@app.command("list")
def list_tokens(as_json: Json = False) -> None:
    """Show every token and its lifetime."""
    columns: dict[str, Column] = {
        "ID": "id",
        "MADE": "created_at",
        "UNTIL": "expires_at",
        "SUBJECT": "subject",
        "ALLOWS": lambda token: " ".join([*token["roles"], *token["permissions"]]),
    }
    print_rows(call(lambda api: read_all(api, "/access-tokens")), columns, as_json=as_json)


@app.command()
def revoke(id: Annotated[str, Argument(help="The token's ID.")]) -> None:
    """Revoke a token everywhere, within a second."""
    if not subjects.is_id(id):
        raise CommandError(f"{id!r} is not the ID of a token; `aidevos tokens list` shows them")
    call(lambda api: api.call("DELETE", f"/access-tokens/{id}"))


def _read_lifetime(text: str) -> float:
    try:
        seconds = parse_time(text)
    except ValueError as error:
        raise CommandError(f"--lifetime={text}: {error}") from None
    if not 1 <= seconds <= LONGEST_LIFE:
        raise CommandError(f"--lifetime={text} must be from 1 second to 10 years")
    return seconds
