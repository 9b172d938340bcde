"""`aidevos token` and `aidevos tokens`: access tokens for scripts on the machine of the fleet.

Whoever can read the home's signing key may issue tokens. The running fleet records each of them before it is printed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from nats.errors import Error as NatsError
from typer import Argument, Option, Typer

from aidevos.cli.errors import CommandError
from aidevos.cli.output import print_table
from aidevos.contracts import access_tokens, subjects
from aidevos.contracts.access_tokens import TokenPage
from aidevos.contracts.authentication import TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import connect_once
from aidevos.durable.client.mirror import read_all
from aidevos.process.fleet import Fleet, load_fleet, with_credentials
from aidevos.quantities import parse_time
from aidevos.security.key_ring import SigningKey
from aidevos.security.keys import keep_until, load_signing_key
from aidevos.security.permissions import ROLES
from aidevos.security.tls import client_context
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import load

# The subject of the tokens with which the command itself calls the fleet, and their life in seconds.
CALLER = "service:cli"
CALL_LIFETIME = 60.0
# Seconds.
CONNECT_WITHIN, ATTEMPT_TIMEOUT, DEADLINE = 3.0, 2.0, 10.0
UNREACHABLE = 1
MAX_LISTED = 10_000
# The longest life of a token, in seconds.
LONGEST_LIFE = 10 * 365 * 86_400.0
Work = Callable[[DurableObjectClient], Awaitable[Any]]


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
    key, fleet = _signing_key(home), load_fleet(home)
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
    _call(fleet, key, lambda client: client.call(access_tokens.TYPE, id, "register", recorded))
    print(issued)


@app.command("list")
def list_tokens() -> None:
    """Show every token and its lifetime."""
    home, subject = load().home, subjects.query(access_tokens.TYPE, access_tokens.SEARCH)
    key, fleet = _signing_key(home), load_fleet(home)
    found = _call(fleet, key, lambda client: read_all(client, None, subject, TokenPage, MAX_LISTED))
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
    home = load().home
    key, fleet = _signing_key(home), load_fleet(home)
    _call(fleet, key, lambda client: client.call(access_tokens.TYPE, id, "revoke"))


def _read_lifetime(text: str) -> float:
    try:
        seconds = parse_time(text)
    except ValueError as error:
        raise CommandError(f"--lifetime={text}: {error}") from None
    if not 1 <= seconds <= LONGEST_LIFE:
        raise CommandError(f"--lifetime={text} must be from 1 second to 10 years")
    return seconds


def _signing_key(home: Path) -> SigningKey:
    try:
        return load_signing_key(home)
    except (OSError, ValueError) as error:
        raise CommandError(f"no signing key under AIDEVOS_HOME={home} (`make up` creates one): {error}") from None


def _call(fleet: Fleet, key: SigningKey, work: Work) -> Any:
    """Return the result of calls to the running fleet. Raises `CommandError`."""

    async def call() -> Any:
        async with _open(fleet, key) as client:
            return await work(client)

    try:
        return asyncio.run(call())
    except (NatsError, OSError) as error:
        raise CommandError(f"NATS at {fleet.nats_url} can't be reached: {error or 'no answer'}", UNREACHABLE) from None
    except Failure as failure:
        status = UNREACHABLE if failure.retryable else 2
        raise CommandError(f"{failure.code}: {failure.detail}", status) from None


@asynccontextmanager
async def _open(fleet: Fleet, key: SigningKey) -> AsyncIterator[DurableObjectClient]:
    """Open a client that calls as a service, through the NATS user for clients."""
    url = with_credentials(fleet.nats_url, fleet.nats_username, fleet.nats_password)
    token = TokenIssuer(key, fleet.public_url).issue(CALLER, roles=("service",), lifetime=CALL_LIFETIME)
    async with asyncio.timeout(CONNECT_WITHIN):
        connection = await connect_once(url, client_context(load()))
    try:
        client = DurableObjectClient(
            connection, lambda: f"Bearer {token}", attempt_timeout=ATTEMPT_TIMEOUT, default_deadline=DEADLINE
        )
        await client.start()
        yield client
    finally:
        await connection.close()
