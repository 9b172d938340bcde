"""What the fleet needs on its NATS server: the mapping, the stream of events, the key-value buckets.

Provisioning is idempotent and changes what is there to what the settings say; it never drops data.
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
# Bytes of one tell from outside, with its headers, and what its dead letter may have beyond them.
TELL_LIMIT = 1024 * 1024
LETTER_MARGIN = 64 * 1024
# How long the server keeps the mark that a key has expired.
MARKER_TTL = 60.0
STREAM_EXISTS = 10058
PROBES = 8
# No type's name begins with an underscore.
PARTITIONS_KEY = "_partitions"


async def provision(connection: Client, settings: Settings) -> None:
    """Make the server ready for the fleet; the connection's user needs the rights to.

    Raises `SettingsError` when the server can't serve a fleet.
    """
    version = connection.connected_server_version
    if (version.major, version.minor) < MINIMUM_VERSION:
        raise SettingsError(f"the NATS server at AIDEVOS_NATS_URL is version {version}, too old: 2.12 is needed")
    await check_mapping(connection)
    js = connection.jetstream()
    try:
        await _ensure_stream(js, events_stream(settings))
        await _ensure_stream(js, tells_stream(settings, connection.max_payload))
        for bucket in (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET):
            await _ensure_bucket(js, bucket)
        await _check_partitions(js)
    except (ServiceUnavailableError, NatsTimeoutError):
        raise SettingsError(
            "the NATS server at AIDEVOS_NATS_URL has no JetStream, or its user may not use it"
        ) from None
    except APIError as error:
        raise SettingsError(f"the NATS server refused a stream: {error.description}") from None


async def check_mapping(connection: Client) -> None:
    """Raises `SettingsError`, which says the line to add, when requests don't reach their partition."""
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
    """Another count of partitions would send IDs elsewhere than their owners listen."""
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
    """The stream of events: full, it refuses new ones and drops none before their age."""
    return StreamConfig(
        name=subjects.EVENTS_STREAM,
        subjects=[subjects.EVENTS, subjects.REPLAYS],
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=settings.events_max_age,
        max_bytes=settings.events_max_bytes,
        duplicate_window=min(DUPLICATE_WINDOW, settings.events_max_age),
        allow_direct=True,
        allow_atomic=True,
    )


def tells_stream(settings: Settings, max_payload: int) -> StreamConfig:
    """The stream of tells from outside: each stays until it is done, however long that takes, since
    JetStream drops what is too old without a word; full, the stream refuses new ones. What is taken fits
    into a dead letter, which goes to its object as a request."""
    return StreamConfig(
        name=subjects.TELLS_STREAM,
        subjects=[subjects.TELLS],
        storage=StorageType.FILE,
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        max_bytes=settings.tells_max_bytes,
        max_msg_size=min(TELL_LIMIT, max_payload - LETTER_MARGIN),
        duplicate_window=DUPLICATE_WINDOW,
    )


async def _ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except BadRequestError as error:
        if error.err_code != STREAM_EXISTS:
            raise
        await js.update_stream(config)


async def _ensure_bucket(js: JetStreamContext, bucket: str) -> None:
    """A key may have a time to live of its own, and a watcher sees at once when it has ended."""
    try:
        await js.key_value(bucket)
    except BucketNotFoundError:
        await js.create_key_value(bucket=bucket, limit_marker_ttl=MARKER_TTL)
