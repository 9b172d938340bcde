"""Reports of deaths: an event for each, and a metric.

Promise: each recorded death is published at least once, however long the bus is down and whichever processes end
meanwhile. One of the processes that share a home does it, and another one takes over when it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO

from aidevos.contracts.placement_events import ProcessDied
from aidevos.durable.base.backoff import FOLLOWING, Backoff
from aidevos.durable.bus.port import BusError, EventBus, OrderConflict
from aidevos.durable.client.client import NUMBER_BITS
from aidevos.durable.client.fleet_events import publish_fleet_event
from aidevos.observability.metrics import PROCESS_DEATHS
from aidevos.process.deaths import Death, folder_of, noticing_death, services_of, waiting
from aidevos.process.stack import background

log = logging.getLogger(__name__)
# Seconds between two looks at the recorded deaths, and between two attempts to become the process that reports them.
LOOK_EVERY, TAKE_OVER_EVERY = 0.5, 2.0
# Others may publish events of the service at the same time.
CONFLICT = Backoff(0.1, 0.1)
CONFLICTS = 30


@asynccontextmanager
async def reporting_deaths(home: Path, service: str, first: int, bus: EventBus) -> AsyncIterator[None]:
    """Report the deaths under a home while the block runs, and that of this process's own predecessor.

    `first` is the lowest number that the process can have among those of its service. Nothing is reported if the home
    can't be written to.
    """
    async with AsyncExitStack() as stack:
        try:
            folder_of(home)
            death = stack.enter_context(noticing_death(home, service, first))
        except OSError as error:
            log.warning("deaths of processes can't be recorded or reported: %s", error)
        else:
            if death is not None:
                log.critical("%s", death, extra=fields_of(death))
            await stack.enter_async_context(background(partial(report_deaths, home, bus)))
        yield


async def report_deaths(home: Path, bus: EventBus) -> None:
    """Count and publish the deaths under a home until cancelled, unless another process does so."""
    counted: set[Path] = set()
    pauses = FOLLOWING.pauses()
    with (folder_of(home) / "reporter.lock").open("a") as lock:
        while not _lock(lock):  # noqa: ASYNC110
            await asyncio.sleep(TAKE_OVER_EVERY)
        while True:
            found = dict(waiting(home))
            _count(home, [death for path, death in found.items() if path not in counted])
            counted = set(found)
            try:
                for path, death in found.items():
                    await _publish(bus, death)
                    path.unlink(missing_ok=True)
            except BusError as error:
                log.warning("publishing deaths of processes failed, trying again: %s", error)
                await pauses.wait()
            else:
                await asyncio.sleep(LOOK_EVERY)


def _count(home: Path, found: list[Death]) -> None:
    """Count these deaths. The services whose processes have not died are shown with zero."""
    for service in services_of(home):
        PROCESS_DEATHS.labels(service)
    for death in found:
        PROCESS_DEATHS.labels(death.service).inc()


def fields_of(death: Death) -> dict[str, object]:
    """Return the fields of a log line about a death, but not the line's own."""
    return {"died": death.service, "died_replica": death.replica, "deaths": death.deaths}


async def _publish(bus: EventBus, death: Death) -> None:
    event = ProcessDied(
        replica=death.replica,
        signal=death.signal,
        status=death.status,
        seconds=death.seconds,
        deaths=death.deaths,
    )
    # Finer than milliseconds: several processes may be killed at once.
    number, origin = int(death.at * 1000 * 2**NUMBER_BITS), f"{death.service}-{death.replica}.{death.deaths}"
    for _ in range(CONFLICTS):
        try:
            await publish_fleet_event(bus, death.service, event, origin=origin, number=number, at=death.at)
        except OrderConflict:
            # Another process was faster, or an earlier attempt has stored it.
            await asyncio.sleep(CONFLICT.pause(1))
        else:
            return
    raise BusError(f"other processes keep publishing events of {death.service}")


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
