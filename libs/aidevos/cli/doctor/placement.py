"""A check for keys that hosts have left behind: partitions that belong to nobody, and hosts without a lease."""

from __future__ import annotations

import asyncio

from aidevos.cli.doctor.finding import Finding, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.contracts import subjects
from aidevos.durable.client.bucket import Bucket

# Seconds after which keys must still be orphaned. The other hosts need a moment to take over.
LOOK_AGAIN = 4.0
SHOWN = 5


async def check_orphaned_keys(patient: Patient) -> list[Finding]:
    """Find partitions whose owner is gone, and hosts that are announced without a lease."""
    connection = await patient.nats()
    keys, hosts = Bucket(connection, subjects.PLACEMENT_BUCKET), Bucket(connection, subjects.HOSTS_BUCKET)
    orphans = await _find(keys, hosts)
    if orphans:
        await asyncio.sleep(LOOK_AGAIN)
        orphans &= await _find(keys, hosts)
    if not orphans:
        return [ok("orphaned keys", "every partition and every announced host has a lease")]
    names = sorted(name for name, _ in orphans)
    shown = ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
    advice = "start a host that serves the types; for a type that you have given up, run `aidevos types forget`"
    detail = f"{len(names)} {'key belongs' if len(names) == 1 else 'keys belong'} to hosts that are gone: {shown}"
    return [warning("orphaned keys", detail, advice)]


async def _find(keys: Bucket, hosts: Bucket) -> set[tuple[str, str]]:
    """Return each orphaned key and the host to which it belongs."""
    living = {key.split(".", 2)[2] for key in await hosts.keys("lease.")}
    members = {(key, key.split(".", 2)[2]) for key in await hosts.keys("member.")}
    owners = {(key, owner) for key, owner in await _owners(keys) if owner}
    return {(key, host) for key, host in members | owners if host not in living}


async def _owners(keys: Bucket) -> list[tuple[str, str]]:
    """Return the key and the owner of each partition."""
    found = []
    async for entry in keys.watch([">"]):
        if entry is None:
            break
        if entry.key.rpartition(".")[2].isdigit():
            found.append((entry.key, (entry.value or b"").decode("ascii", "replace")))
    return found
