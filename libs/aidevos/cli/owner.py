"""Calls of the fleet by its owner: whoever can read the home's signing key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats.errors import Error as NatsError

from aidevos.cli.errors import UNREACHABLE, CommandError
from aidevos.cli.target import signing_key
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import connect_once
from aidevos.process.fleet import Fleet, load_fleet, with_credentials
from aidevos.security.key_ring import SigningKey
from aidevos.security.permissions import OWNER
from aidevos.security.tls import client_context
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import load

# Seconds: the life of the tokens with which the command calls, and the age at which it takes a new one.
LIFETIME, RENEWED_AFTER = 60.0, 20.0
CONNECT_WITHIN, ATTEMPT_TIMEOUT, DEADLINE = 3.0, 2.0, 10.0
Work = Callable[[DurableObjectClient], Awaitable[Any]]


def call_fleet(work: Work) -> Any:
    """Return the result of calls to the running fleet, made as its owner. Raises `CommandError` or `SettingsError`."""
    home = load().home
    key, fleet = signing_key(home), load_fleet(home)

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
    """Open a client that calls as the owner, through the NATS user for clients."""
    url = with_credentials(fleet.nats_url, fleet.nats_username, fleet.nats_password)
    async with asyncio.timeout(CONNECT_WITHIN):
        connection = await connect_once(url, client_context(load()))
    try:
        client = DurableObjectClient(
            connection,
            _Credential(TokenIssuer(key, fleet.public_url)),
            attempt_timeout=ATTEMPT_TIMEOUT,
            default_deadline=DEADLINE,
        )
        await client.start()
        yield client
    finally:
        await connection.close()


class _Credential:
    """A token that is renewed while a long command runs."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer
        self._header = ""
        self._renew_at = 0.0

    def __call__(self) -> str:
        if time.monotonic() >= self._renew_at:
            self._header = "Bearer " + self._issuer.issue(OWNER, roles=("service",), lifetime=LIFETIME)
            self._renew_at = time.monotonic() + RENEWED_AFTER
        return self._header
