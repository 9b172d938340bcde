"""Measures how late alarms ring when many are due on objects that are not in memory."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.cases import Stage
from tests.bench.comparison import Compared
from tests.bench.load import Sample
from tests.bench.processes import start
from tests.support.alarms import lateness, set_evenly
from tests.support.host_processes import client

COUNT = 10_000
SECONDS = 60.0
# Seconds until the first alarm is due.
LEAD = 40.0
ALLOWED = 250.0
# The allowed lateness, as a sample.
TARGET = Sample(COUNT / SECONDS, ALLOWED, ALLOWED)


def measure(stage: Stage) -> list[Compared]:
    own = asyncio.run(_measure(stage))
    name = f"lateness of {COUNT:,} alarms in {SECONDS:.0f} s"
    return [Compared(name, "allowed", "p99", [own], [TARGET], None, 1.0)]


async def _measure(stage: Stage) -> Sample:
    async with client(stage.world.servers) as (caller, _):
        begin = time.time() + LEAD
        with _host(stage):
            ids = await set_evenly(caller, COUNT, begin, SECONDS)
        with _host(stage):
            late = await lateness(caller, ids, begin + SECONDS + 1.0)
    milliseconds = [1000 * seconds for seconds in late]
    return Sample(COUNT / SECONDS, milliseconds[COUNT // 2], milliseconds[COUNT * 99 // 100])


@contextmanager
def _host(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    world = stage.world
    process = start(world.servers, "tests.bench.bells", "objects", world.database, AIDEVOS_REPLICA="1")
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
