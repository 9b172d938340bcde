"""The NATS server's configuration: where it stores, how it maps subjects, and who may do what.

Each service has a user of its own with only the subjects that it needs and a private inbox prefix
(`_INBOX_<user>`), so that nobody reads another's replies, and only hosts write them. Publish
permissions are checked on the *mapped* subject, so a caller of `do.>` needs `dop.>`.

Clients have an account of their own, into which the fleet's exports calls, lists and events. No
permission is asked for the reply subject of a request, and JetStream publishes to whatever that
says: inside one account a client could so have streams purged and events forged by the server
itself. Between accounts the server puts a reply subject of its own in the place of the client's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.process.fleet import CLIENT_USER

FLEET_ACCOUNT = "FLEET"
CLIENT_ACCOUNT = "CLIENTS"
# Provisions streams and buckets; no service runs with it.
ADMIN_USER = "fleet"
GATEWAY_USER = "gateway"
# Processes that host objects, each under its folder's name in services/.
HOST_USERS = ("objects", "authentication", "user_management", "data_storage", "projects", "api_gateway", "events")
# Processes that do tasks: they call and hear of events, and host nothing.
WORKER_USER = "task_worker"
USERS = (ADMIN_USER, GATEWAY_USER, CLIENT_USER, WORKER_USER, *HOST_USERS)

# What headers and the reply subject may add to the largest payload.
PAYLOAD_MARGIN = 64 * 1024
MIB = 1024 * 1024

# What clients may ask of the fleet: many may answer where the services describe themselves.
_EXPORTED = [
    {"service": "do.>"},
    {"service": "tell.>"},
    {"service": "query.>"},
    {"service": "metrics.>", "response": "stream"},
    {"service": "$SRV.>", "response": "stream"},
    {"service": f"$JS.API.STREAM.INFO.{subjects.EVENTS_STREAM}"},
    {"service": f"$JS.API.DIRECT.GET.{subjects.EVENTS_STREAM}"},
    {"service": f"$JS.API.DIRECT.GET.{subjects.EVENTS_STREAM}.>"},
    {"stream": subjects.EVENTS},
]
# Who hosts the dead letters removes tells that nobody takes.
_STRAYS = {"events": (f"$JS.API.STREAM.MSG.DELETE.{subjects.TELLS_STREAM}",)}
_CALLS = ["do.>", "dop.>", "tell.>"]
_BUCKETS = (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET)
# The server remembers each request that was not answered yet, for as long as the longest deadline.
_ANSWERS = {"max": 1, "expires": "6m"}
# A host answers callers in their inboxes. The response permission would do, but with it the server
# keeps every request in a table and looks through all of them again and again.
_INBOXES = ["_INBOX.>", "_R_.>", *(f"_INBOX_{user}.>" for user in (GATEWAY_USER, WORKER_USER, *HOST_USERS))]


def render(
    *,
    host: str,
    port: int,
    store: Path,
    passwords: Mapping[str, str],
    max_body: int,
    streams_max_bytes: int,
) -> str:
    """The configuration file, in JSON, which the server reads as its own format. It holds the passwords."""
    max_payload = max_body + PAYLOAD_MARGIN
    config = {
        "host": host,
        "port": port,
        "max_payload": max_payload,
        "max_pending": max(64 * MIB, 2 * max_payload),
        "jetstream": {
            "store_dir": str(store),
            # An acknowledged event survives a power cut.
            "sync_interval": "always",
            "max_memory_store": 64 * MIB,
            # While a stream is updated, the server counts it twice.
            "max_file_store": 2 * streams_max_bytes + 1024 * MIB,
        },
        "accounts": {
            FLEET_ACCOUNT: {
                "jetstream": "enabled",
                "mappings": {subjects.MAPPING_FROM: subjects.MAPPING_TO},
                "users": [_user(user, passwords) for user in USERS if user != CLIENT_USER],
                "exports": _EXPORTED,
            },
            CLIENT_ACCOUNT: {
                "users": [_user(CLIENT_USER, passwords)],
                "imports": [_import(export) for export in _EXPORTED],
            },
        },
    }
    return msgspec.json.format(msgspec.json.encode(config), indent=2).decode()


def _user(user: str, passwords: Mapping[str, str]) -> dict[str, Any]:
    return {"user": user, "password": passwords[user], "permissions": permissions(user)}


def _import(export: Mapping[str, str]) -> dict[str, Any]:
    kind = "stream" if "stream" in export else "service"
    return {kind: {"account": FLEET_ACCOUNT, "subject": export[kind]}}


def permissions(user: str) -> dict[str, Any]:
    """What a user may publish and subscribe to, as the server's configuration spells it."""
    if user == ADMIN_USER:
        return {"publish": [">"], "subscribe": [">"]}
    if user == GATEWAY_USER:
        return {
            "publish": [
                *_CALLS,
                "query.>",
                "health.>",
                *_use(f"KV_{subjects.TYPES_BUCKET}"),
                *_use(subjects.EVENTS_STREAM),
            ],
            "subscribe": _registered(user),
            "allow_responses": _ANSWERS,
        }
    if user == CLIENT_USER:
        return {
            "publish": [export["service"] for export in _EXPORTED if "service" in export],
            "subscribe": [subjects.EVENTS, "_INBOX.>"],
        }
    if user == WORKER_USER:
        return {
            "publish": ["do.>", "dop.>", "query.>", *_use(subjects.EVENTS_STREAM), *_INBOXES],
            "subscribe": [subjects.health(user), *_registered(user)],
        }
    return {
        "publish": [
            *_CALLS,
            "query.>",
            subjects.EVENTS,
            subjects.REPLAYS,
            *_use(subjects.EVENTS_STREAM),
            *_use(subjects.TELLS_STREAM),
            *_STRAYS.get(user, ()),
            *_buckets(),
            *_INBOXES,
        ],
        "subscribe": ["dop.>", "query.>", subjects.health(user), subjects.metrics(user), *_registered(user)],
    }


def _registered(user: str) -> list[str]:
    """Every process has its inbox and registers as a NATS micro service."""
    return ["$SRV.>", f"_INBOX_{user}.>"]


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
