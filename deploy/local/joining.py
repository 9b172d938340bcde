"""A wait until processes have joined the fleet: each one answers that it is well, on its service's health subject."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Collection
from secrets import token_hex

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.durable.client.connection import connect_once
from aidevos.security.fleet_secrets import Secrets
from aidevos.security.tls import client_context
from aidevos.settings import Settings

from ..nats.config import ADMIN_USER
from . import nats_server
from .control import FleetError
from .programs import Replica

# Seconds in which the processes of a service may answer before they are asked again, and the pause before that.
ANSWER_WITHIN = 0.2
POLL = 0.05


class _Report(msgspec.Struct):
    name: str
    replica: int
    ok: bool
    detail: str


def wait_until_joined(
    settings: Settings, secrets: Secrets, wanted: Collection[Replica], check: Callable[[], None], within: float
) -> None:
    """Return once all of these replicas are well. `check` is called again and again meanwhile.

    Raises `FleetError` after `within` seconds, or any exception that `check` raises.
    """
    url = nats_server.url(settings, secrets, ADMIN_USER)
    asyncio.run(_wait(url, client_context(settings), set(wanted), check, within))


async def _wait(
    url: str, tls: ssl.SSLContext | None, missing: set[Replica], check: Callable[[], None], within: float
) -> None:
    reasons: dict[Replica, str] = {}
    end = time.monotonic() + within
    while True:
        try:
            reasons |= await _connect_and_ask(url, tls, missing)
        except (NatsError, OSError) as error:
            # The server may have been killed, and start again.
            reasons = dict.fromkeys(missing, f"the NATS server doesn't answer: {error}")
        missing = {replica for replica in missing if reasons.get(replica) != ""}
        if not missing:
            return
        check()
        if time.monotonic() > end:
            replica = min(missing)
            raise FleetError(f"{replica.program} didn't join the fleet: {reasons.get(replica, 'no reply')}")
        await asyncio.sleep(POLL)


async def _connect_and_ask(url: str, tls: ssl.SSLContext | None, missing: set[Replica]) -> dict[Replica, str]:
    connection = await connect_once(url, tls)
    try:
        return await _ask(connection, missing)
    finally:
        await connection.close()


async def _ask(connection: Client, missing: set[Replica]) -> dict[Replica, str]:
    """Return what is wrong with each replica that answers; an empty string if nothing is."""
    answers: dict[Replica, str] = {}
    inbox = f"_INBOX.{token_hex(8)}"
    replies = await connection.subscribe(inbox)
    try:
        for service in {replica.service for replica in missing}:
            await connection.publish(subjects.health(service), reply=inbox)
        async with asyncio.timeout(ANSWER_WITHIN):
            while missing - answers.keys():
                message = await replies.next_msg(timeout=ANSWER_WITHIN)
                # The server itself says, without data, that nobody listens.
                if message.data:
                    report = msgspec.json.decode(message.data, type=_Report)
                    answers[Replica(report.name, report.replica)] = "" if report.ok else report.detail or "not well"
    except TimeoutError:
        pass
    finally:
        await replies.unsubscribe()
    return answers
