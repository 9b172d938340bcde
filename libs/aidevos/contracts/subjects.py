"""Every NATS subject of the product, spelled once, and the IDs that stand in them.

A caller addresses `do.<type>.<id>.<method>`; the server's mapping inserts the partition, and the
owner of the partition consumes `dop.<partition>.<type>.<id>.<method>`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time

from aidevos.contracts.errors import Failure

PARTITIONS = 64
MAPPING_FROM = "do.*.*.>"
MAPPING_TO = f"dop.{{{{partition({PARTITIONS},1,2)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}.>"
MAPPING = f'mappings: {{ "{MAPPING_FROM}": "{MAPPING_TO}" }}'
EVENTS_STREAM = "EVENTS"
# Key-value buckets: live incarnations of hosts, who owns which type, and what the types look like.
HOSTS_BUCKET = "hosts"
PLACEMENT_BUCKET = "placement"
TYPES_BUCKET = "types"
EVENTS = "event.>"
TELLS_STREAM = "TELLS"
TELLS = "tell.>"
# Events that are delivered again to one group.
REPLAYS = "replay.>"

TYPE_PATTERN = r"[a-z][a-z0-9_]{0,47}"
ID_PATTERN = r"[A-Za-z0-9_-]{1,128}"
METHOD_PATTERN = r"[a-z][a-z0-9_]{0,63}"
NAME_LIMIT = 1024
_type = re.compile(TYPE_PATTERN).fullmatch
_id = re.compile(ID_PATTERN).fullmatch
_method = re.compile(METHOD_PATTERN).fullmatch


def call(type: str, id: str, method: str) -> str:
    """Where a request to an object's method goes."""
    return f"do.{type}.{id}.{method}"


def owned(type: str, partition: int | str = "*") -> str:
    """What the owner of a type's partition (by default of all) subscribes to."""
    return f"dop.{partition}.{type}.>"


def parse_owned(subject: str) -> tuple[str, str, str, str]:
    """(partition, type, id, method) of a message that came through the mapping."""
    parts = subject.split(".", 4)
    if len(parts) != 5:
        raise Failure("unknown-method", "the subject is not do.<type>.<id>.<method>", field="subject")
    return parts[1], parts[2], parts[3], parts[4]


def tell(type: str, id: str, method: str) -> str:
    """Where a durable one-way call is stored."""
    return f"tell.{type}.{id}.{method}"


def query(type: str, name: str) -> str:
    """Where any replica answers from committed state."""
    return f"query.{type}.{name}"


def health(service: str) -> str:
    """Every process of a service answers here with `{"name", "replica", "ok", "detail"}`."""
    return f"health.{service}"


def metrics(service: str) -> str:
    """Every process of a service answers here with its metrics in Prometheus' text format."""
    return f"metrics.{service}"


def event(type: str, id: str, name: str) -> str:
    """Where an object's event is published."""
    return f"event.{type}.{id}.{name}"


def events_of(type: str, id: str) -> str:
    """All events of one object: the scope of its publishing order."""
    return f"event.{type}.{id}.>"


def replayed(group: str, event: str) -> str:
    """An event, or a pattern of events, that is delivered again to one group alone."""
    return f"replay.{group}.{event}"


def event_of(subject: str) -> str:
    """The event's own subject, of one that may be delivered again."""
    return subject.split(".", 2)[2] if subject.startswith("replay.") else subject


def partition(type: str, id: str) -> int:
    """The partition that the NATS server computes: FNV-1a (32 bit) over type and ID, modulo 64."""
    digest = 0x811C9DC5
    for byte in (type + id).encode():
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest % PARTITIONS


def is_type(value: str) -> bool:
    return _type(value) is not None


def is_id(value: str) -> bool:
    return _id(value) is not None


def is_method(value: str) -> bool:
    return _method(value) is not None


def join_object_id(type: str, id: str) -> str:
    return f"{type}:{id}"


def split_object_id(object_id: str) -> tuple[str, str]:
    """`counter:clicks` → (`counter`, `clicks`); raises `invalid`."""
    type, colon, id = object_id.partition(":")
    if not colon or not is_type(type) or not is_id(id):
        raise Failure(
            "invalid",
            "an object ID is <type>:<id>, the type [a-z][a-z0-9_]* of at most 48 characters, "
            "the ID [A-Za-z0-9_-] of 1 to 128",
            field="object_id",
        )
    return type, id


def id_from_name(type: str, name: str) -> str:
    """The ID of the object of this type with this name, the same in every language.

    A name that is a valid ID is its own ID. Any other string becomes the lower-case hexadecimal
    SHA-256 of `<type>:<name>` in UTF-8 (64 characters). Raises `invalid` for a name that is empty,
    longer than 1,024 bytes, or not encodable.
    """
    return name if is_id(name) else hashed_id(type, name)


def hashed_id(type: str, name: str) -> str:
    """The ID of a name that must not be read from it: as `id_from_name` of a name that is no ID."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise Failure("invalid", "a name must be valid Unicode", field="name") from None
    if not 0 < len(encoded) <= NAME_LIMIT:
        raise Failure("invalid", f"a name has 1 to {NAME_LIMIT} bytes", field="name")
    return hashlib.sha256(f"{type}:".encode() + encoded).hexdigest()


def new_id() -> str:
    """A new time-ordered ID: UUIDv7 (RFC 9562) in hexadecimal, 32 characters."""
    stamp = time.time_ns() // 1_000_000
    value = stamp << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"
