"""Provisioning of the NATS server: the streams and key-value buckets of a fleet, and a check of its mapping.

Promise: provisioning is idempotent. It updates existing streams to the settings, and never drops data.
"""

from __future__ import annotations

from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError, BucketNotFoundError, KeyNotFoundError, ServiceUnavailableError

from aidevos.contracts import subjects
from aidevos.settings import Settings, SettingsError

MINIMUM_VERSION = (2, 12)
DUPLICATE_WINDOW = 120.0
# The size limit of one tell with its headers, and the additional bytes of its dead letter.
TELL_LIMIT = 1024 * 1024
LETTER_MARGIN = 64 * 1024
# Seconds that the server keeps the marker of an expired key.
MARKER_TTL = 60.0
STREAM_EXISTS = 10058
# No peers for the replicas, and no cluster.
TOO_FEW_SERVERS = (10005, 10074)
PROBES = 8
# Type names don't begin with an underscore, so this key can't be that of a type.
PARTITIONS_KEY = "_partitions"


async def provision(connection: Client, settings: Settings) -> None:
    """Prepare the server for the fleet, as a user with the rights to do so.

    Raises `SettingsError` if the server can't serve a fleet.
    """
    version = connection.connected_server_version
    if (version.major, version.minor) < MINIMUM_VERSION:
        raise SettingsError(f"the NATS server at AIDEVOS_NATS_URL has version {version}, but 2.12 or later is needed")
    await check_mapping(connection)
    js = connection.jetstream()
    try:
        await _ensure_stream(js, events_stream(settings))
        await _ensure_stream(js, tells_stream(settings, connection.max_payload))
        for bucket in (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET):
            await _ensure_bucket(js, bucket, settings.stream_replicas)
        await _check_partitions(js)
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


async def check_mapping(connection: Client) -> None:
    """Raise `SettingsError` with the line to add if the server doesn't map calls to their partitions."""
    type, method = "_probe", connection.new_inbox().rpartition(".")[2]
    ids = [str(number) for number in range(PROBES)]
    probe = await connection.subscribe(f"dop.*.{type}.*.{method}")
    try:
        for id in ids:
            await connection.publish(subjects.call(type, id, method), b"")
        reached = {(await probe.next_msg(timeout=2)).subject for _ in ids}
    except NatsTimeoutError:
        reached = set()
    finally:
        await probe.unsubscribe()
    if reached != {f"dop.{subjects.partition(type, id)}.{type}.{id}.{method}" for id in ids}:
        raise SettingsError(
            f"the NATS server at AIDEVOS_NATS_URL needs this line in its configuration: {subjects.MAPPING}"
        )


async def _check_partitions(js: JetStreamContext) -> None:
    """Store the partition count at first; raise `SettingsError` if it differs, because it would remap all IDs."""
    bucket = await js.key_value(subjects.PLACEMENT_BUCKET)
    try:
        stored = int((await bucket.get(PARTITIONS_KEY)).value or b"0")
    except KeyNotFoundError:
        await bucket.put(PARTITIONS_KEY, str(subjects.PARTITIONS).encode())
        return
    if stored != subjects.PARTITIONS:
        raise SettingsError(
            f"the fleet on the NATS server at AIDEVOS_NATS_URL has {stored} partitions, "
            f"this version has {subjects.PARTITIONS}: use the version that made it"
        )


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
        subjects=[subjects.TELLS],
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
    """Create a bucket whose keys can have their own TTL, and whose watchers see an expiry at once."""
    try:
        found = (await (await js.key_value(bucket)).status()).stream_info.config
    except BucketNotFoundError:
        await js.create_key_value(bucket=bucket, limit_marker_ttl=MARKER_TTL, replicas=replicas)
    else:
        if found.num_replicas != replicas:
            await js.update_stream(found.evolve(num_replicas=replicas))
