"""Bursts of requests from one NATS client to one host: `bursts.py <NATS URL> <token> <count> <objects> <seconds>`.

The client runs in a process of its own and prints what became of its requests as JSON.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import islice

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from aidevos import DurableObjectClient
from aidevos.contracts import envelope, subjects
from aidevos.durable.client.client import failure_of
from aidevos.durable.client.connection import connect
from tests.support.servers import Servers

AT_ONCE = 500
PROBE_EVERY = 0.02


class Outcome(msgspec.Struct):
    """What became of a burst. `codes` counts its answers by error code, and results under the empty string.

    `late` is the number of requests without an answer by their deadline, `mute` the number of refusals without a time
    for another attempt, and `slowest` the longest wait for an answer, in seconds.
    """

    codes: dict[str, int]
    late: int
    mute: int
    sent_in: float
    slowest: float


async def send(connection: Client, token: str, count: int, objects: int, seconds: float) -> Outcome:
    """Send all requests at once, and wait for their answers until the deadline of the last one."""
    codes: Counter[str] = Counter()
    sent: list[float] = []
    left = dict.fromkeys(range(count))
    mute, slowest = 0, 0.0
    done = asyncio.Event()
    inbox = connection.new_inbox()

    async def keep(message: Msg) -> None:
        nonlocal mute, slowest
        number = int(message.subject.rpartition(".")[2])
        waited = time.monotonic() - sent[number]
        if number not in left or waited > seconds:
            return
        del left[number]
        slowest = max(slowest, waited)
        failure = failure_of(message)
        codes[failure.code if failure else ""] += 1
        mute += failure is not None and failure.retry_after is None
        if not left:
            done.set()

    await connection.subscribe(f"{inbox}.*", cb=keep, pending_msgs_limit=-1, pending_bytes_limit=-1)
    headers = {envelope.AUTHORIZATION: f"Bearer {token}", envelope.DEADLINE: str(int(seconds * 1000))}
    began = time.monotonic()
    numbers = iter(range(count))
    while batch := list(islice(numbers, AT_ONCE)):
        for number in batch:
            sent.append(time.monotonic())
            subject = subjects.call("tally", f"o{number % objects}", "add")
            await connection.publish(subject, b"", reply=f"{inbox}.{number}", headers=headers)
        await asyncio.sleep(0)
    await connection.flush(60)
    sent_in = time.monotonic() - began
    with suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), seconds)
    return Outcome(dict(codes), len(left), mute, sent_in, slowest)


class Burst(msgspec.Struct):
    """A burst, and the waits in seconds of a probe of another object from another client meanwhile."""

    outcome: Outcome
    waits: list[float]

    def wait(self, share: float) -> float:
        """Return the wait that this share of the probes stayed below."""
        return sorted(self.waits)[min(int(share * len(self.waits)), len(self.waits) - 1)]


async def run_burst(servers: Servers, caller: DurableObjectClient, count: int, objects: int, seconds: float) -> Burst:
    """Send a burst from a process of its own, whose requests have a deadline of `seconds`, and probe meanwhile.

    Raises `Failure` if a probe is refused.
    """
    token = servers.issuer().issue("burster", roles=("admin",))
    arguments = [servers.nats_url("gateway"), token, str(count), str(objects), str(seconds)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.bursts", *arguments, stdout=subprocess.PIPE
    )
    waits: list[float] = []
    probing = asyncio.create_task(_probe(caller, waits))
    output, _ = await process.communicate()
    probing.cancel()
    with suppress(asyncio.CancelledError):
        await probing
    return Burst(msgspec.json.decode(output, type=Outcome), waits)


async def _probe(caller: DurableObjectClient, waits: list[float]) -> None:
    while True:
        began = time.monotonic()
        await caller.call("tally", "probe", "add")
        waits.append(time.monotonic() - began)
        await asyncio.sleep(PROBE_EVERY)


async def main() -> None:
    url, token, count, objects, seconds = sys.argv[1:]
    connection = await connect(url, "burst")
    outcome = await send(connection, token, int(count), int(objects), float(seconds))
    print(msgspec.json.encode(outcome).decode())
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
