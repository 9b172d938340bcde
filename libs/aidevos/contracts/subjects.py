"""All NATS subjects of the product, and the IDs that occur in them.

A caller addresses `do.<type>.<id>.<method>`. The server's mapping inserts the partition, and the
partition's owner receives `dop.<partition>.<type>.<id>.<method>`. In the same way, a tell to
`tell.<type>.<id>.<method>` is stored as `tellp.<partition>.<type>.<id>.<method>`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time

from aidevos.contracts.errors import Failure

# The number of partitions of each type, unless the fleet was first started with another one.
PARTITIONS = 64
MAX_PARTITIONS = 4096
EVENTS_STREAM = "EVENTS"
# Key-value buckets: the hosts and their leases, the owners of partitions, and the descriptions of types.
HOSTS_BUCKET = "hosts"
PLACEMENT_BUCKET = "partitions"
TYPES_BUCKET = "types"
EVENTS = "event.>"
TELLS_STREAM = "TELLS"
# Tells as they are published, which only malformed ones keep, and as the server's mapping stores them.
TELLS = "tell.>"
STORED_TELLS = "tellp.>"
# The subject on which every host replies with a description of itself (`contracts.fleet.HostInfo`).
FLEET = "fleet.hosts"
# The subject on which every process replies with its metrics (`contracts.fleet.ProcessMetrics`).
FLEET_METRICS = "fleet.metrics"
# Events that are delivered again to a single group.
REPLAYS = "replay.>"

TYPE_PATTERN = r"[a-z][a-z0-9_]{0,47}"
ID_PATTERN = r"[A-Za-z0-9_-]{1,128}"
METHOD_PATTERN = r"[a-z][a-z0-9_]{0,63}"
NAME_LIMIT = 1024
_type = re.compile(TYPE_PATTERN).fullmatch
_id = re.compile(ID_PATTERN).fullmatch
_method = re.compile(METHOD_PATTERN).fullmatch


def call(type: str, id: str, method: str) -> str:
    """Return the subject of a call of an object's method."""
    return f"do.{type}.{id}.{method}"


def mappings(partitions: int) -> dict[str, str]:
    """Return the server's mappings for a fleet with this number of partitions."""
    rest = f"{{{{partition({partitions},1,2)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}.>"
    return {"do.*.*.>": f"dop.{rest}", "tell.*.*.>": f"tellp.{rest}"}


def mappings_line(partitions: int) -> str:
    """Return the line of the server's configuration that maps subjects for this number of partitions."""
    return "mappings: { " + ", ".join(f'"{given}": "{mapped}"' for given, mapped in mappings(partitions).items()) + " }"


def owned(type: str, partition: int | str = "*") -> str:
    """Return the subject that the owner of a type's partition (by default of all) subscribes to."""
    return f"dop.{partition}.{type}.>"


def lease_key(service: str, incarnation: str) -> str:
    """Return the key of a host's lease in the bucket of hosts."""
    return f"lease.{service}.{incarnation}"


def member_key(service: str, incarnation: str) -> str:
    """Return the key under which a host says what it is, in the bucket of hosts."""
    return f"member.{service}.{incarnation}"


def stored_tells(type: str, partition: int | str = "*") -> str:
    """Return the pattern of the stored tells to a type's partition (by default to all)."""
    return f"tellp.{partition}.{type}.>"


def tell_target(subject: str) -> str:
    """Return `<type>.<id>.<method>` of a tell's subject, with or without its partition, if it is well formed."""
    prefix, _, rest = subject.partition(".")
    return rest.partition(".")[2] if prefix == "tellp" else rest


def parse_owned(subject: str) -> tuple[str, str, str, str]:
    """Return (partition, type, id, method) of a mapped subject. Raises `unknown-method`."""
    parts = subject.split(".", 4)
    if len(parts) != 5:
        raise Failure("unknown-method", "the subject must be do.<type>.<id>.<method>", field="subject")
    return parts[1], parts[2], parts[3], parts[4]


def tell(type: str, id: str, method: str) -> str:
    """Return the subject of a tell, a durable one-way call."""
    return f"tell.{type}.{id}.{method}"


def query(type: str, name: str) -> str:
    """Return the subject of a query over committed state, which any replica answers."""
    return f"query.{type}.{name}"


def health(service: str) -> str:
    """Return the subject on which every process of a service replies with `{"name", "replica", "ok", "detail"}`."""
    return f"health.{service}"


def metrics(service: str) -> str:
    """Return the subject on which every process of a service replies with its metrics (Prometheus' text format)."""
    return f"metrics.{service}"


def active(service: str, incarnation: str) -> str:
    """Return the subject on which a host tells others of its service which objects it has in memory."""
    return f"active.{service}.{incarnation}"


def event(type: str, id: str, name: str) -> str:
    """Return the subject of an object's event."""
    return f"event.{type}.{id}.{name}"


def events_of(type: str, id: str) -> str:
    """Return the pattern of all events of one object, within which their order is kept."""
    return f"event.{type}.{id}.>"


def events_of_type(type: str) -> str:
    """Return the pattern of all events of one type."""
    return f"event.{type}.>"


def replayed(group: str, event: str) -> str:
    """Return the subject of an event, or of a pattern of events, that is redelivered to a single group."""
    return f"replay.{group}.{event}"


def event_of(subject: str) -> str:
    """Return the original subject of an event that may have been redelivered."""
    return subject.split(".", 2)[2] if subject.startswith("replay.") else subject


def partition(type: str, id: str, partitions: int = PARTITIONS) -> int:
    """Return the partition that the NATS server computes: FNV-1a (32 bit) over type and ID, modulo `partitions`."""
    digest = 0x811C9DC5
    for byte in (type + id).encode():
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest % partitions


def is_type(value: str) -> bool:
    return _type(value) is not None


def is_id(value: str) -> bool:
    return _id(value) is not None


def is_method(value: str) -> bool:
    return _method(value) is not None


def join_object_id(type: str, id: str) -> str:
    return f"{type}:{id}"


def split_object_id(object_id: str) -> tuple[str, str]:
    """Return (type, id) of an object ID such as `counter:clicks`. Raises `invalid`."""
    type, colon, id = object_id.partition(":")
    if not colon or not is_type(type) or not is_id(id):
        raise Failure(
            "invalid",
            "an object ID must be <type>:<id>, with a type [a-z][a-z0-9_]* of at most 48 characters and "
            "an ID of 1 to 128 characters [A-Za-z0-9_-]",
            field="object_id",
        )
    return type, id


def find_object(name: str) -> tuple[str, str]:
    """Return (type, ID) of the object that `<type>:<name>` names. Raises `invalid`."""
    type, colon, rest = name.partition(":")
    if not colon or not is_type(type) or not rest:
        detail = "name an object as <type>:<name>, with a type [a-z][a-z0-9_]* of at most 48 characters"
        raise Failure("invalid", detail, field="object_id")
    try:
        return type, id_from_name(type, rest)
    except Failure as failure:
        failure.field = "object_id"
        raise


def id_from_name(type: str, name: str) -> str:
    """Return the ID of the object of this type with this name, the same in every language.

    A name that is a valid ID is its own ID. Any other string becomes the lower-case hexadecimal SHA-256
    of `<type>:<name>` in UTF-8 (64 characters). Raises `invalid` for a name that is empty, longer than
    1,024 bytes, or not encodable.
    """
    return name if is_id(name) else hashed_id(type, name)


def hashed_id(type: str, name: str) -> str:
    """Return an ID that doesn't reveal the name: the hash that `id_from_name` uses for names that aren't IDs."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise Failure("invalid", "a name must be valid Unicode", field="name") from None
    if not 0 < len(encoded) <= NAME_LIMIT:
        raise Failure("invalid", f"a name must have 1 to {NAME_LIMIT} bytes", field="name")
    return hashlib.sha256(f"{type}:".encode() + encoded).hexdigest()


def new_id() -> str:
    """Return a new time-ordered ID: a UUIDv7 (RFC 9562) of 32 hexadecimal digits."""
    stamp = time.time_ns() // 1_000_000
    value = stamp << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"
