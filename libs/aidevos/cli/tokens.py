"""`aidevos token` and `aidevos tokens`: access tokens for scripts on the machine of the fleet.

Whoever can read the home's signing key may issue tokens. The running fleet records each of them before it is printed.
"""

from __future__ import annotations

import time
from typing import Annotated

from typer import Argument, Option, Typer

from aidevos.cli.errors import CommandError
from aidevos.cli.output import print_table
from aidevos.cli.owner import call_fleet, signing_key
from aidevos.contracts import access_tokens, subjects
from aidevos.contracts.access_tokens import TokenPage
from aidevos.contracts.authentication import TOKEN_LIFETIME
from aidevos.durable.client.mirror import read_all
from aidevos.process.fleet import load_fleet
from aidevos.quantities import parse_time
from aidevos.security.keys import keep_until
from aidevos.security.permissions import ROLES
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import load

MAX_LISTED = 10_000
# The longest life of a token, in seconds.
LONGEST_LIFE = 10 * 365 * 86_400.0


app = Typer(help="List or revoke the tokens that `aidevos token` has printed.")


def token(
    role: Annotated[list[str], Option(help="A role of the subject, for example admin.")] = [],  # noqa: B006
    permission: Annotated[list[str], Option(help="A permission beyond those of the roles.")] = [],  # noqa: B006
    subject: Annotated[str, Option(help="The token's subject.")] = "cli",
    lifetime: Annotated[str, Option(metavar="TIME", help="The token's life, in seconds or like 30d.")] = "15m",
) -> None:
    """Print an access token signed with this fleet's key."""
    seconds = _read_lifetime(lifetime)
    for each in role:
        if each not in ROLES:
            raise CommandError(f"there is no role {each!r}; known roles: {', '.join(sorted(ROLES))}")
    home, id, now = load().home, subjects.new_id(), int(time.time())
    key, fleet = signing_key(home), load_fleet(home)
    if seconds > TOKEN_LIFETIME:
        keep_until(home, key.id, now + seconds)
    issued = TokenIssuer(key, fleet.public_url).issue(
        subject,
        roles=tuple(role),
        permissions=tuple(permission),
        lifetime=seconds,
        issued_at=now,
        record=id,
    )
    recorded = {"subject": subject, "roles": role, "permissions": permission, "expires_at": now + int(seconds)}
    call_fleet(lambda client: client.call(access_tokens.TYPE, id, "register", recorded))
    print(issued)


@app.command("list")
def list_tokens() -> None:
    """Show every token and its lifetime."""
    subject = subjects.query(access_tokens.TYPE, access_tokens.SEARCH)
    found = call_fleet(lambda client: read_all(client, None, subject, TokenPage, MAX_LISTED))
    rows = [
        (each.id, each.created_at, each.expires_at, each.subject, " ".join([*each.roles, *each.permissions]))
        for each in found
    ]
    print_table(("ID", "MADE", "UNTIL", "SUBJECT", "ALLOWS"), rows)


@app.command()
def revoke(id: Annotated[str, Argument(help="The token's ID.")]) -> None:
    """Revoke a token everywhere, within a second."""
    if not subjects.is_id(id):
        raise CommandError(f"{id!r} is not the ID of a token; `aidevos tokens list` shows them")
    call_fleet(lambda client: client.call(access_tokens.TYPE, id, "revoke"))


def _read_lifetime(text: str) -> float:
    try:
        seconds = parse_time(text)
    except ValueError as error:
        raise CommandError(f"--lifetime={text}: {error}") from None
    if not 1 <= seconds <= LONGEST_LIFE:
        raise CommandError(f"--lifetime={text} must be from 1 second to 10 years")
    return seconds
