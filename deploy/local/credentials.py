"""Credentials of the local fleet, generated at the first start and kept from then on."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from aidevos.security.fleet_secrets import SECRETS_FILE, Secrets, load_secrets
from aidevos.security.secret_files import write_secret

from ..nats.config import USERS as NATS_USERS
from .mongo_server import USERS as MONGO_USERS


def ensure_secrets(home: Path) -> Secrets:
    """Return the secrets under `home`, after adding a password for each user that has none yet."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        kept = load_secrets(home)
    except FileNotFoundError:
        kept = Secrets(nats={}, mongo={}, mongo_key=secrets.token_hex(256), admin_password=_generate_password())
    complete = msgspec.structs.replace(
        kept,
        nats={user: kept.nats.get(user) or _generate_password() for user in NATS_USERS},
        mongo={user: kept.mongo.get(user) or _generate_password() for user in MONGO_USERS},
    )
    write_secret(home / SECRETS_FILE, msgspec.json.encode(complete))
    return complete


def _generate_password() -> str:
    return secrets.token_urlsafe(24)
