"""Provisioning of the NATS server: the streams and key-value buckets of a fleet, and a check of its mappings.

Promise: provisioning is idempotent. It updates existing streams to the settings, and never drops data.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError, BucketNotFoundError, NotFoundError, ServiceUnavailableError

from aidevos.contracts import subjects
from aidevos.durable.client.bucket import Bucket
from aidevos.settings import Settings, SettingsError

MINIMUM_VERSION = (2, 12)
DUPLICATE_WINDOW = 120.0
# The size limit of one tell with its headers, and the additional bytes of its dead letter.
TELL_LIMIT = 1024 * 1024
LETTER_MARGIN = 64 * 1024
# Seconds that the server keeps the marker of an expired key.
MARKER_TTL = 60.0
STREAM_EXISTS = 10058
# Seconds for one call. A cluster may be electing a leader.
WITHIN = 15.0
# No peers for the replicas, and no cluster.
TOO_FEW_SERVERS = (10005, 10074)
PROBES = 8
# Type names don't begin with an underscore, so this key can't be that of a partition.
PARTITIONS_KEY = "_count"
# The bucket in which earlier versions kept the owner of each type, and their key of the number of partitions.
FORMER_BUCKET, FORMER_KEY = "placement", "_partitions"


async def provision(connection: Client, settings: Settings) -> None:
    """Prepare the server for the fleet, as a user with the rights to do so.

    Raises `SettingsError` if the server can't serve a fleet.
    """
    version = connection.connected_server_version
    if (version.major, version.minor) < MINIMUM_VERSION:
        raise SettingsError(f"the NATS server at AIDEVOS_NATS_URL has version {version}, but 2.12 or later is needed")
    js = connection.jetstream()
    try:
        is_new = await _check_partitions(connection, settings.partitions)
        await check_mapping(connection, settings.partitions, tells=True)
        await _ensure_stream(js, events_stream(settings))
        await _ensure_stream(js, tells_stream(settings, connection.max_payload))
        for bucket in (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET):
            await _ensure_bucket(js, bucket, settings.stream_replicas)
        if is_new:
            await _keep_partitions(connection, js, settings.partitions)
        await _remove_former_consumers(js)
    except (ServiceUnavailableError, NatsTimeoutError):
        raise SettingsError(
            "the NATS server at AIDEVOS_NATS_URL has no JetStream, or its user may not use it"
        ) from None
    except APIError as error:
        if error.err_code in TOO_FEW_SERVERS:
            raise SettingsError(
                f"AIDEVOS_STREAM_REPLICAS={settings.stream_replicas}: the NATS server at AIDEVOS_NATS_URL isn't in a "
                f"cluster of at least {settings.stream_replicas} servers that run ({error.description})"
            ) from None
        raise SettingsError(f"the NATS server refused a stream: {error.description}") from None


async def check_mapping(connection: Client, partitions: int, *, tells: bool = False) -> None:
    """Raise `SettingsError` with the line to add if the server doesn't map calls, and `tells`, to their partitions."""
    await _check_mapped(connection, partitions, subjects.call, "dop", {})
    if tells:
        # The stream of tells refuses messages that are meant for another stream.
        await _check_mapped(connection, partitions, subjects.tell, "tellp", {"Nats-Expected-Stream": "none"})


async def _check_mapped(
    connection: Client, partitions: int, address: Callable[..., str], prefix: str, headers: dict[str, str]
) -> None:
    type, method = "_probe", connection.new_inbox().rpartition(".")[2]
    ids = [str(number) for number in range(PROBES)]
    probe = await connection.subscribe(f"{prefix}.*.{type}.*.{method}")
    try:
        for id in ids:
            await connection.publish(address(type, id, method), b"", headers=headers)
        reached = {(await probe.next_msg(timeout=2)).subject for _ in ids}
    except NatsTimeoutError:
        reached = set()
    finally:
        await probe.unsubscribe()
    if reached != {f"{prefix}.{subjects.partition(type, id, partitions)}.{type}.{id}.{method}" for id in ids}:
        raise SettingsError(
            "the NATS server at AIDEVOS_NATS_URL needs this line in its configuration: "
            + subjects.mappings_line(partitions)
        )


async def read_partitions(connection: Client) -> int:
    """Return the number of partitions of each type in this fleet. Raises `SettingsError`."""
    try:
        value, _ = await Bucket(connection, subjects.PLACEMENT_BUCKET, WITHIN).get(PARTITIONS_KEY)
    except (NatsError, TimeoutError) as error:
        raise SettingsError(f"the NATS server at AIDEVOS_NATS_URL has no fleet: {error!r}") from None
    if value is None:
        raise SettingsError("the fleet on the NATS server at AIDEVOS_NATS_URL is not provisioned: start it first")
    return int(value)


async def _check_partitions(connection: Client, wanted: int) -> bool:
    """Return True if the partition count isn't stored yet where it belongs.

    Raises `SettingsError` if the fleet has another one, because that would remap all IDs.
    """
    for name, key in ((subjects.PLACEMENT_BUCKET, PARTITIONS_KEY), (FORMER_BUCKET, FORMER_KEY)):
        value, _ = await Bucket(connection, name, WITHIN).get(key)
        if value is not None and int(value) != wanted:
            raise SettingsError(
                f"the fleet on the NATS server at AIDEVOS_NATS_URL was first started with {int(value)} partitions, "
                f"which can't change: set AIDEVOS_PARTITIONS={int(value)}"
            )
        if value is not None:
            return name != subjects.PLACEMENT_BUCKET
    return True


async def _keep_partitions(connection: Client, js: JetStreamContext, count: int) -> None:
    """Store the partition count, and remove the bucket in which earlier versions kept it, with the owners of types."""
    await Bucket(connection, subjects.PLACEMENT_BUCKET, WITHIN).put(PARTITIONS_KEY, b"%d" % count)
    with suppress(NotFoundError):
        await js.delete_key_value(FORMER_BUCKET)


async def _remove_former_consumers(js: JetStreamContext) -> None:
    """Remove the consumers of earlier versions, each of which read all tells to a type."""
    for consumer in await js.consumers_info(subjects.TELLS_STREAM):
        if (consumer.config.filter_subject or "").startswith("tell."):
            await js.delete_consumer(subjects.TELLS_STREAM, consumer.name)


def events_stream(settings: Settings) -> StreamConfig:
    """Return the configuration of the event stream. A full stream refuses new events, never drops old ones early."""
    return StreamConfig(
        name=subjects.EVENTS_STREAM,
        subjects=[subjects.EVENTS, subjects.REPLAYS],
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=settings.events_max_age,
        max_bytes=settings.events_max_bytes,
        duplicate_window=min(DUPLICATE_WINDOW, settings.events_max_age),
        num_replicas=settings.stream_replicas,
        allow_direct=True,
        allow_atomic=True,
    )


def tells_stream(settings: Settings, max_payload: int) -> StreamConfig:
    """Return the configuration of the stream of clients' tells.

    Tells have no age limit, because JetStream drops expired messages silently. A full stream refuses new tells. An
    accepted tell fits into a dead letter, which is sent to its object as a request.
    """
    return StreamConfig(
        name=subjects.TELLS_STREAM,
        subjects=[subjects.TELLS, subjects.STORED_TELLS],
        storage=StorageType.FILE,
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        max_bytes=settings.tells_max_bytes,
        max_msg_size=min(TELL_LIMIT, max_payload - LETTER_MARGIN),
        duplicate_window=DUPLICATE_WINDOW,
        num_replicas=settings.stream_replicas,
    )


async def _ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except BadRequestError as error:
        if error.err_code != STREAM_EXISTS:
            raise
        await js.update_stream(config)


async def _ensure_bucket(js: JetStreamContext, bucket: str, replicas: int) -> None:
    """Create a bucket whose keys can be set together, can have their own TTL, and are seen to expire at once."""
    try:
        found = (await (await js.key_value(bucket)).status()).stream_info.config
    except BucketNotFoundError:
        await js.add_stream(bucket_stream(bucket, replicas))
        return
    wanted = found.evolve(num_replicas=replicas, allow_atomic=True)
    if wanted != found:
        await js.update_stream(wanted)


def bucket_stream(bucket: str, replicas: int) -> StreamConfig:
    """Return the configuration of a bucket's stream (NATS ADR-8)."""
    return StreamConfig(
        name=f"KV_{bucket}",
        subjects=[f"$KV.{bucket}.>"],
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        duplicate_window=DUPLICATE_WINDOW,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
        allow_msg_ttl=True,
        allow_atomic=True,
        subject_delete_marker_ttl=MARKER_TTL,
    )
