"""`aidevos nats-user`: users of NATS for clients, each isolated from all others."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
from nats.errors import Error as NatsError
from typer import Argument, Option

from aidevos.cli.errors import CommandError
from aidevos.contracts.patterns import whole
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.client.connection import connect_once
from aidevos.process.fleet import CLIENT_USER, FLEET_FILE, Fleet, load_fleet, with_credentials
from aidevos.process.nats_users import (
    CONFIG,
    FOLDER,
    UserExists,
    create_user,
    load_users,
    remove_user,
)
from aidevos.security.fleet_secrets import load_secrets
from aidevos.security.tls import client_context
from aidevos.settings import load

NAME = re.compile(whole("[a-z][a-z0-9_-]{0,47}"))
SERVER = "nats"
KNOWN_WITHIN = 10.0


def nats_user(
    name: Annotated[str, Argument(help="Without a name, the users are listed.")] = "",
    remove: Annotated[bool, Option("--remove", help="Remove the user and end its connections.")] = False,
    events: Annotated[bool, Option("--events", help="Let it read the events of all objects.")] = False,
    metrics: Annotated[bool, Option("--metrics", help="Let it read the metrics of the services.")] = False,
) -> None:
    """Create, list or remove users of the NATS server.

    Each is for one client of the fleet under AIDEVOS_HOME, and isolated from all others.

    Example: aidevos nats-user shop --events
    """
    home = load().home
    if not (home / FOLDER / CONFIG).exists():
        raise CommandError(
            f"AIDEVOS_HOME={home} has no NATS server of its own: create users in the configuration of yours"
        )
    if not name:
        _list(home)
    elif remove:
        if not remove_user(home, name):
            raise CommandError(f"no user {name!r} was created")
        if (home / FLEET_FILE).exists() and (pid := _server(load_fleet(home))):
            _reload(pid)
    else:
        _create(home, name, events=events, metrics=metrics)


def _list(home: Path) -> None:
    for name, user in sorted(load_users(home).items()):
        granted = [right for right in ("events", "metrics") if getattr(user, right)]
        print(" ".join([name, *granted]))


def _create(home: Path, name: str, *, events: bool, metrics: bool) -> None:
    if not NAME.match(name):
        raise CommandError(f"{name!r} must be 1 to 48 of a-z, 0-9, _ and -, and begin with a letter")
    if name == CLIENT_USER or name in load_secrets(home).nats:
        raise CommandError(f"{name!r} is a user of the fleet's own")
    try:
        password = create_user(home, name, events=events, metrics=metrics)
    except UserExists:
        raise CommandError(f"there is a user {name!r}; `aidevos nats-user {name} --remove` removes it") from None
    fleet = load_fleet(home) if (home / FLEET_FILE).exists() else None
    shown = {"nats_url": fleet.nats_url} if fleet else {}
    shown |= {"nats_username": name, "nats_password": password}
    print(msgspec.json.format(msgspec.json.encode(shown)).decode())
    if fleet and (pid := _server(fleet)):
        _reload(pid)
        # The server connects an account that is new in a configuration to the fleet's only when it reads it again.
        asyncio.run(_wait_until_known(with_credentials(fleet.nats_url, name, password)))
        _reload(pid)


def _server(fleet: Fleet) -> int | None:
    """Return the PID of the fleet's NATS server, if it runs on this machine; otherwise say what to do."""
    for process in fleet.processes:
        if process.name == SERVER:
            return process.pid
    print("Restart the NATS server, as with: docker compose restart nats", file=sys.stderr)
    return None


def _reload(pid: int) -> None:
    """Let the running server read its configuration anew."""
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise CommandError(f"the NATS server can't be told: {error}", 1) from None


async def _wait_until_known(url: str) -> None:
    settings = load()
    end, pauses = time.monotonic() + KNOWN_WITHIN, Backoff(0.05, 0.5).pauses()
    while True:
        try:
            connection = await connect_once(url, client_context(settings))
        except (NatsError, OSError) as error:
            if time.monotonic() > end:
                raise CommandError(f"the NATS server doesn't let the new user in: {error}", 1) from None
            await pauses.wait()
        else:
            await connection.close()
            return
