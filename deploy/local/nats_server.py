"""The fleet's own NATS server: its files under the home, its command and its URL."""

from __future__ import annotations

import os
from pathlib import Path

from aidevos.process.fleet import with_credentials
from aidevos.process.nats_users import CONFIG, FOLDER, write_accounts
from aidevos.security.fleet_secrets import Secrets
from aidevos.security.secret_files import write_secret
from aidevos.settings import Settings

from ..nats.config import render
from .ports import authority


def configure(settings: Settings, secrets: Secrets) -> Path:
    """Write the configuration (mode 600) and return its path."""
    folder = settings.home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = render(
        host=settings.host,
        port=settings.nats_port,
        store=folder,
        passwords=secrets.nats,
        max_body=settings.max_body,
        streams_max_bytes=settings.events_max_bytes + settings.tells_max_bytes,
        partitions=settings.partitions,
    )
    path = folder / CONFIG
    write_secret(path, config.encode())
    write_accounts(settings.home)
    return path


def command(program: Path, settings: Settings) -> list[str]:
    """Return the command that runs the configured server in the foreground."""
    return [str(program), "--config", str(settings.home / FOLDER / CONFIG)]


def environment() -> dict[str, str]:
    """Return the variables of the server's process, which get it a quarter of the cores.

    The Go runtime wakes another thread for each message that finds it idle, which looks for work in vain. With
    one thread, a message costs a fraction of that, and the services have use for the other cores.
    """
    return {"GOMAXPROCS": os.environ.get("GOMAXPROCS") or str(max(1, (os.cpu_count() or 1) // 4))}


def url(settings: Settings, secrets: Secrets, user: str) -> str:
    """Return the server's URL with this user's credentials, or `AIDEVOS_NATS_URL` unchanged if it is set."""
    own = f"nats://{authority(settings.host, settings.nats_port)}"
    return settings.nats_url or with_credentials(own, user, secrets.nats[user])
