"""The NATS server's configuration: its storage, its subject mapping and its users' permissions.

Each service has its own user, which may use only the subjects that it needs and a private inbox prefix
(`_INBOX_<user>`). No service can read another's replies, and only hosts can write them. Publish
permissions are checked on the *mapped* subject, so a caller of `do.>` needs `dop.>`.

Clients have their own account, into which the fleet's account exports calls, lists and events. The
server checks no permission for the reply subject of a request, and JetStream publishes to whatever it
says. Inside one account, a client could therefore make the server itself purge streams and forge
events. Between accounts, the server replaces the client's reply subject by its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aidevos.contracts import placement_events, subjects
from aidevos.process.fleet import CLIENT_USER
from aidevos.process.nats_users import ACCOUNTS, EXPORTS, FLEET_ACCOUNT, account

CLIENT_ACCOUNT = "CLIENTS"
# Provisions streams and buckets; no service uses it.
ADMIN_USER = "fleet"
GATEWAY_USER = "gateway"
# Processes that host objects; each user is named after the service's folder in services/.
HOST_USERS = ("objects", "authentication", "user_management", "data_storage", "projects", "api_gateway", "events")
# Processes that run tasks: they call objects and receive events, but host nothing.
WORKER_USER = "task_worker"
USERS = (ADMIN_USER, GATEWAY_USER, CLIENT_USER, WORKER_USER, *HOST_USERS)

# Any process may report that one has died.
DEATHS = subjects.event(placement_events.TYPE, "*", placement_events.NAMES[placement_events.ProcessDied])

# Bytes that headers and the reply subject may add to the largest payload.
PAYLOAD_MARGIN = 64 * 1024
MIB = 1024 * 1024
# Bytes that may wait for one connection: 50,000 requests of 1 KiB each second, for `AIDEVOS_STALL_LIMIT`.
MAX_PENDING = 512 * MIB

# The host of the dead letters removes the tells that no host takes.
_STRAY_TELLS = {"events": (f"$JS.API.STREAM.MSG.DELETE.{subjects.TELLS_STREAM}",)}
_CALLS = ["do.>", "dop.>", "tell.>", "tellp.>"]
_BUCKETS = (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET)
# The server remembers each unanswered request for as long as the longest deadline.
_ANSWERS = {"max": 1, "expires": "6m"}
# A host publishes replies to its callers' inboxes. The response permission would suffice, but with it
# the server keeps every request in a table and scans the whole table again and again.
_INBOXES = ["_INBOX.>", "_R_.>", *(f"_INBOX_{user}.>" for user in (GATEWAY_USER, WORKER_USER, *HOST_USERS))]


def render(
    *,
    host: str,
    port: int,
    store: Path,
    passwords: Mapping[str, str],
    max_body: int,
    streams_max_bytes: int,
    partitions: int,
) -> str:
    """Return the configuration file, which contains the passwords. It includes the accounts of `aidevos nats-user`."""
    config = {
        "host": host,
        "port": port,
        "jetstream": {
            "store_dir": str(store),
            # An acknowledged event survives a power cut.
            "sync_interval": "always",
            "max_memory_store": 64 * MIB,
            # The server counts a stream twice while it is updated.
            "max_file_store": 2 * streams_max_bytes + 1024 * MIB,
        },
    }
    return f"{_entries(config)}\n{render_shared(passwords=passwords, max_body=max_body, partitions=partitions)}"


def render_shared(*, passwords: Mapping[str, str], max_body: int, partitions: int) -> str:
    """Return the part of the configuration that is the same for every server of a cluster, wherever it runs."""
    max_payload = max_body + PAYLOAD_MARGIN
    config = {
        "max_payload": max_payload,
        # A host that doesn't read for as long as its watchdog lets it must not be cut off, even in a burst: whatever
        # waits for it would be lost without an answer.
        "max_pending": max(MAX_PENDING, 2 * max_payload),
        "write_timeout": "retry",
    }
    accounts = {
        FLEET_ACCOUNT: {
            "jetstream": "enabled",
            "mappings": subjects.mappings(partitions),
            "users": [_user(user, passwords) for user in USERS if user != CLIENT_USER],
            "exports": EXPORTS,
        },
        CLIENT_ACCOUNT: account({"user": CLIENT_USER, "password": passwords[CLIENT_USER]}, EXPORTS),
    }
    return f"{_entries(config)}\naccounts: {{\n{_entries(accounts)}\ninclude './{ACCOUNTS}'\n}}\n"


def _entries(config: Mapping[str, Any]) -> str:
    """Return the entries of a map in the server's own format, whose values may be JSON."""
    return "\n".join(f"{key}: {msgspec.json.encode(value).decode()}" for key, value in config.items())


def _user(user: str, passwords: Mapping[str, str]) -> dict[str, Any]:
    return {"user": user, "password": passwords[user], "permissions": permissions(user)}


def permissions(user: str) -> dict[str, Any]:
    """Return the subjects that a user may publish and subscribe to, in the form of the server's configuration."""
    if user == ADMIN_USER:
        return {"publish": [">"], "subscribe": [">"]}
    if user == GATEWAY_USER:
        return {
            "publish": [
                *_CALLS,
                "query.>",
                "health.>",
                subjects.FLEET,
                subjects.FLEET_METRICS,
                DEATHS,
                *_use(f"KV_{subjects.TYPES_BUCKET}"),
                # To forget types that nobody serves.
                f"$KV.{subjects.TYPES_BUCKET}.*",
                *_use(f"KV_{subjects.HOSTS_BUCKET}"),
                *_use(subjects.EVENTS_STREAM),
            ],
            "subscribe": [subjects.health("http_gateway"), *_process_subjects(user)],
            "allow_responses": _ANSWERS,
        }
    if user == WORKER_USER:
        return {
            "publish": [
                "do.>",
                "dop.>",
                "query.>",
                DEATHS,
                *_use(f"KV_{subjects.TYPES_BUCKET}"),
                *_use(subjects.EVENTS_STREAM),
                *_INBOXES,
            ],
            "subscribe": [subjects.health(user), *_process_subjects(user)],
        }
    return {
        "publish": [
            *_CALLS,
            "query.>",
            subjects.active(user, ">"),
            subjects.EVENTS,
            subjects.REPLAYS,
            *_use(subjects.EVENTS_STREAM),
            *_use(subjects.TELLS_STREAM),
            f"$JS.API.CONSUMER.LIST.{subjects.TELLS_STREAM}",
            *_STRAY_TELLS.get(user, ()),
            *_buckets(),
            *_INBOXES,
        ],
        "subscribe": [
            "dop.>",
            "query.>",
            subjects.active(user, ">"),
            subjects.health(user),
            subjects.metrics(user),
            subjects.FLEET,
            *_process_subjects(user),
        ],
    }


def _process_subjects(user: str) -> list[str]:
    """Return the subjects that every process needs for its inbox, its NATS micro service and its metrics."""
    return ["$SRV.>", f"_INBOX_{user}.>", subjects.FLEET_METRICS]


def _read(stream: str) -> list[str]:
    return [
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.>",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.>",
        f"$JS.ACK.{stream}.>",
        f"$JS.FC.{stream}.>",
    ]


def _use(stream: str) -> list[str]:
    return [*_read(stream), f"$JS.API.CONSUMER.DELETE.{stream}.>"]


def _buckets() -> list[str]:
    return [subject for bucket in _BUCKETS for subject in (*_use(f"KV_{bucket}"), f"$KV.{bucket}.>")]
