"""Checks of the subject mapping, and of the streams and buckets of NATS."""

from __future__ import annotations

from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from aidevos.cli.doctor.finding import Finding, error, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.contracts import subjects
from aidevos.durable.hosting.provision import check_mapping as try_mapping
from aidevos.durable.hosting.provision import read_partitions
from aidevos.settings import SettingsError

BUCKETS = (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET)
STREAMS = (subjects.EVENTS_STREAM, subjects.TELLS_STREAM, *(f"KV_{bucket}" for bucket in BUCKETS))
# Shares of a stream's limit.
HIGH, FULL = 0.8, 0.95
LIMITS = {subjects.EVENTS_STREAM: "AIDEVOS_EVENTS_MAX_BYTES", subjects.TELLS_STREAM: "AIDEVOS_TELLS_MAX_BYTES"}


async def check_mapping(patient: Patient) -> list[Finding]:
    """Find out whether the server maps subjects to partitions."""
    connection = await patient.nats()
    try:
        partitions = await read_partitions(connection)
        await try_mapping(connection, partitions)
    except SettingsError as failure:
        return [error("mapping", str(failure), "put the line into the server's configuration, and reload it")]
    return [ok("mapping", f"subjects are mapped to {partitions} partitions")]


async def check_streams(patient: Patient) -> list[Finding]:
    """Find streams that are missing, nearly full, or have too few copies."""
    js = (await patient.nats()).jetstream(timeout=3)
    found, copies = [], patient.settings.stream_replicas
    for name in STREAMS:
        try:
            found += judge(await js.stream_info(name), copies)
        except NotFoundError:
            found.append(error("streams", f"{name} is missing", "run `make up`, or provision the servers again"))
    account = await js.account_info()
    if 0 < account.limits.max_storage < account.storage / HIGH:
        advice = "raise the limit of JetStream's storage"
        found.append(warning("streams", f"JetStream uses {account.storage / account.limits.max_storage:.0%}", advice))
    return found or [
        ok("streams", f"{len(STREAMS)} are there, with room, in {copies} {'copy' if copies == 1 else 'copies'} each")
    ]


def judge(info: StreamInfo, copies: int) -> list[Finding]:
    """Return what is wrong with a stream that should have this number of copies."""
    name, found = info.config.name or "", []
    limit, used = info.config.max_bytes or 0, info.state.bytes
    if limit > 0 and used > HIGH * limit:
        detail = f"{name} is {used / limit:.0%} full"
        advice = f"raise {LIMITS.get(name, 'its limit')}, or find out who fills it"
        found.append((error if used > FULL * limit else warning)("streams", detail, advice))
    if (info.config.num_replicas or 1) < copies:
        detail = f"{name} has {info.config.num_replicas} copies, and AIDEVOS_STREAM_REPLICAS is {copies}"
        found.append(error("streams", detail, "restart the fleet, which makes the copies"))
    for peer in (info.cluster.replicas or []) if info.cluster is not None else []:
        if peer.offline or not peer.current:
            state = "is offline" if peer.offline else "lags behind"
            found.append(warning("streams", f"the copy of {name} on {peer.name} {state}", "see the log of that server"))
    return found
