"""`aidevos token` and `aidevos tokens`: access tokens for scripts on the machine of the fleet.

Whoever can read the home's signing key may issue tokens. The running fleet records each of them before it is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError

from aidevos.cli.errors import CommandError
from aidevos.contracts import access_tokens, subjects
from aidevos.contracts.access_tokens import TokenPage
from aidevos.contracts.authentication import TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import connect_once
from aidevos.durable.client.mirror import read_all
from aidevos.process.fleet import Fleet, load_fleet, with_credentials
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
Work = Callable[[DurableObjectClient], Awaitable[Any]]


def add_to(commands: Any) -> None:
    token = commands.add_parser("token", help="print an access token signed with this fleet's key")
    token.add_argument("--role", action="append", default=[], help="a role of the subject, for example admin")
    token.add_argument("--permission", action="append", default=[], help="a permission beyond those of the roles")
    token.add_argument("--subject", default="cli", help="the token's subject (default: %(default)s)")
    token.add_argument("--lifetime", type=_lifetime, default=900.0, help="lifetime in seconds (default: 900)")
    token.set_defaults(run=_issue)

    parser = commands.add_parser("tokens", help="list or revoke the tokens that `aidevos token` has printed")
    actions = parser.add_subparsers(required=True, metavar="action")
    actions.add_parser("list", help="show every token and its lifetime").set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="revoke a token everywhere, within a second")
    revoke.add_argument("id", help="the token's ID")
    revoke.set_defaults(run=_revoke)


def _issue(options: argparse.Namespace) -> None:
    for role in options.role:
        if role not in ROLES:
            raise CommandError(f"there is no role {role!r}; known roles: {', '.join(sorted(ROLES))}")
    home, id, now = load().home, subjects.new_id(), int(time.time())
    key, fleet = _signing_key(home), load_fleet(home)
    if options.lifetime > TOKEN_LIFETIME:
        keep_until(home, key.id, now + options.lifetime)
    token = TokenIssuer(key, fleet.public_url).issue(
        options.subject,
        roles=tuple(options.role),
        permissions=tuple(options.permission),
        lifetime=options.lifetime,
        issued_at=now,
        record=id,
    )
    recorded = {
        "subject": options.subject,
        "roles": options.role,
        "permissions": options.permission,
        "expires_at": now + int(options.lifetime),
    }
    _call(fleet, key, lambda client: client.call(access_tokens.TYPE, id, "register", recorded))
    print(token)


def _list(options: argparse.Namespace) -> None:
    home, subject = load().home, subjects.query(access_tokens.TYPE, access_tokens.SEARCH)
    key, fleet = _signing_key(home), load_fleet(home)
    found = _call(fleet, key, lambda client: read_all(client, None, subject, TokenPage, MAX_LISTED))
    row = "{:32}  {:24}  {:24}  {:20}  {}".format
    print(row("ID", "MADE", "UNTIL", "SUBJECT", "ALLOWS").rstrip())
    for token in found:
        allowed = " ".join([*token.roles, *token.permissions])
        print(row(token.id, token.created_at, token.expires_at, token.subject, allowed).rstrip())


def _revoke(options: argparse.Namespace) -> None:
    if not subjects.is_id(options.id):
        raise CommandError(f"{options.id!r} is not the ID of a token; `aidevos tokens list` shows them")
    home = load().home
    key, fleet = _signing_key(home), load_fleet(home)
    _call(fleet, key, lambda client: client.call(access_tokens.TYPE, options.id, "revoke"))


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


def _lifetime(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 10 * 365 * 86400:
        raise ValueError
    return seconds
