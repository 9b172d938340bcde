"""The NATS users that the owner of a home creates for clients, and what a client may use of a fleet.

Promise: each user has an account of its own. Nothing that a user publishes reaches another user, and no user can
listen to another, whatever inbox or reply subject it names: the server carries only calls, and the answers to them,
between a client's account and the fleet's. A removed user is disconnected when the server reads its configuration anew.

Passwords are generated and shown once. The file has their hashes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.security.secret_files import lock, write_secret

FOLDER = "nats"
CONFIG = "nats.conf"
USERS = "users.json"
# A part of the server's configuration, which includes it.
ACCOUNTS = "users.conf"
FLEET_ACCOUNT = "FLEET"
# The users have 192 random bits as their passwords: a slow hash would only delay their connections.
ROUNDS = 4
Export = dict[str, str]

# The subjects that clients may use. "stream" allows many replies: every service describes itself.
CALLS: tuple[Export, ...] = (
    {"service": "do.>"},
    {"service": "tell.>"},
    {"service": "query.>"},
    {"service": "$SRV.>", "response": "stream"},
    # The types that hosts have announced: a call that nobody takes fails at once if nobody will.
    {"service": f"$JS.API.DIRECT.GET.KV_{subjects.TYPES_BUCKET}.$KV.{subjects.TYPES_BUCKET}.*"},
)
METRICS: tuple[Export, ...] = ({"service": "metrics.>", "response": "stream"},)
EVENTS: tuple[Export, ...] = (
    {"service": f"$JS.API.STREAM.INFO.{subjects.EVENTS_STREAM}"},
    {"service": f"$JS.API.DIRECT.GET.{subjects.EVENTS_STREAM}"},
    {"service": f"$JS.API.DIRECT.GET.{subjects.EVENTS_STREAM}.>"},
    {"stream": subjects.EVENTS},
)
EXPORTS = (*CALLS, *METRICS, *EVENTS)


class NatsUser(msgspec.Struct, frozen=True):
    """A client's user: the hash of its password, and whether it may read all events and the services' metrics."""

    password: str
    events: bool = False
    metrics: bool = False


class UserExists(Exception):
    """Raised if there is a user of this name."""


def load_users(home: Path) -> dict[str, NatsUser]:
    """Return the users that were created under this home, by name."""
    try:
        return msgspec.json.decode((home / FOLDER / USERS).read_bytes(), type=dict[str, NatsUser])
    except FileNotFoundError:
        return {}


def create_user(home: Path, name: str, *, events: bool = False, metrics: bool = False) -> str:
    """Create a user for the server's next configuration, and return its password. Raises `UserExists`."""
    password = secrets.token_urlsafe(24)
    # Imported here, because the supervisor makes no users.
    import bcrypt

    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS, prefix=b"2a")).decode()
    with lock(home / FOLDER):
        users = load_users(home)
        if name in users:
            raise UserExists(name)
        _save(home, users | {name: NatsUser(hashed, events, metrics)})
    return password


def remove_user(home: Path, name: str) -> bool:
    """Remove a user from the server's next configuration; return False if no user has this name."""
    with lock(home / FOLDER):
        users = load_users(home)
        if users.pop(name, None) is None:
            return False
        _save(home, users)
    return True


def write_accounts(home: Path) -> None:
    """Write what the server's configuration includes: an account for each user."""
    accounts = {f"CLIENT_{name}": _account(name, user) for name, user in load_users(home).items()}
    write_secret(home / FOLDER / ACCOUNTS, msgspec.json.format(msgspec.json.encode(accounts)))


def account(user: Mapping[str, Any], exports: tuple[Export, ...]) -> dict[str, Any]:
    """Return the configuration of an account with one user, which may use these exports of the fleet's."""
    inboxes = ["_INBOX.>", f"_INBOX_{user['user']}.>"]
    permissions = {
        "publish": [export["service"] for export in exports if "service" in export],
        "subscribe": [*(export["stream"] for export in exports if "stream" in export), *inboxes],
    }
    return {"users": [{**user, "permissions": permissions}], "imports": [_import(export) for export in exports]}


def _account(name: str, user: NatsUser) -> dict[str, Any]:
    exports = CALLS + EVENTS * user.events + METRICS * user.metrics
    return account({"user": name, "password": user.password}, exports)


def _import(export: Export) -> dict[str, Any]:
    kind = "stream" if "stream" in export else "service"
    return {kind: {"account": FLEET_ACCOUNT, "subject": export[kind]}}


def _save(home: Path, users: Mapping[str, NatsUser]) -> None:
    write_secret(home / FOLDER / USERS, msgspec.json.encode(users))
    write_accounts(home)
