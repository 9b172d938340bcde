"""Running a process that hosts objects: the composition root that all such services share."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import uvloop
from nats.errors import Error as NatsError

from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.revocations import SINCE, Revocations
from aidevos.durable.base.clock import SystemClock
from aidevos.durable.bus.chosen import open_bus
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import connect
from aidevos.durable.delivery.reactions import Reactions
from aidevos.durable.hosting.host import Host
from aidevos.durable.hosting.placement import HostName
from aidevos.durable.hosting.provision import check_mapping
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.ownership.router import Limits
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.completion import Bounds
from aidevos.observability import logs
from aidevos.process.collector import collect_rarely
from aidevos.security.credentials import ServiceCredential
from aidevos.security.keys import load_public_keys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import Settings, SettingsError, load

log = logging.getLogger(__name__)
STORE_WITHIN = 30.0
REJOIN_PAUSE = 0.5
CHORE_PAUSE = 1.0

Types = Sequence[type[BaseDurableObject[Any]]]
# Something to be done once, with the service's own credential, before it is healthy.
Preparation = Callable[[DurableObjectClient, Settings], Awaitable[None]]


class Process(NamedTuple):
    """What a service's own work has: `outside` calls as the service, and `verifier` knows who may do what now."""

    settings: Settings
    outside: DurableObjectClient
    bus: EventBus
    verifier: TokenVerifier


# Something that goes on for as long as the service runs.
Chore = Callable[[Process], Coroutine[Any, Any, None]]


def main(
    types: Types | Callable[[Settings], Types],
    *,
    service: str,
    prepare: Preparation | None = None,
    chore: Chore | None = None,
) -> None:
    """Run a service's process with the settings of its environment, which `types` may be made of."""
    try:
        settings = load()
        built = types(settings) if callable(types) else types
    except SettingsError as error:
        raise SystemExit(_said(error)) from None
    run(built, settings, service=service, reports_health=True, prepare=prepare, chore=chore)


def run(
    types: Types,
    settings: Settings,
    *,
    service: str = "objects",
    reports_health: bool = False,
    prepare: Preparation | None = None,
    chore: Chore | None = None,
) -> None:
    """Serve the types until SIGTERM or SIGINT, and with `reports_health` answer for the health of the
    service. What can't be used ends the process with one line and status 2."""
    logs.configure(settings.log_level, service)
    collect_rarely()
    try:
        uvloop.run(serve(types, settings, service=service, reports_health=reports_health, prepare=prepare, chore=chore))
    except SettingsError as error:
        raise SystemExit(_said(error)) from None


async def serve(
    types: Types,
    settings: Settings,
    *,
    service: str,
    reports_health: bool,
    prepare: Preparation | None = None,
    chore: Chore | None = None,
) -> None:
    """Serve the types until the task is cancelled or the process gets SIGTERM or SIGINT.

    `prepare` runs beside the serving, is tried until it succeeds, and until then the service says
    that it isn't well. `chore` runs for as long as the service does, and is begun anew when it fails.
    """
    registry = DurableObjectRegistry(types)
    name = HostName(settings.home, service, settings.replica)
    credential = ServiceCredential(settings, service, registry.permissions())
    verifier = TokenVerifier(lambda: load_public_keys(settings.home), settings.public_url)
    hosts: list[Host] = []

    def suspend() -> None:
        for host in hosts:
            host.lease.suspend()

    connection = await connect(settings.nats_url, f"{service}-{name.replica}", on_disconnect=suspend)
    await check_mapping(connection)
    store = MongoStore(settings.mongo_url, settings.mongo_database)
    await _open_store(store, registry)
    outside = DurableObjectClient(
        connection,
        credential.authorization,
        attempt_timeout=settings.attempt_timeout,
        default_deadline=settings.default_deadline,
    )
    await outside.start()
    admission = Admission(verifier, outside, credential.authorization)
    limiter = RateLimiter(settings, outside, credential.authorization)
    bus = await open_bus(settings, connection)
    events = EventStream(bus, since=SINCE)
    revocations = Revocations(
        events, verifier, outside, credential.authorization, admission.change, limiter.set_policies
    )
    beside = [asyncio.create_task(work) for work in (events.follow(), revocations.follow(), admission.report())]
    await _read_revocations(revocations)
    preparing = asyncio.create_task(_prepare(prepare, outside, settings))
    beside.append(preparing)
    reactions = Reactions(registry, bus, outside, SystemClock(), attempts=settings.event_attempts)
    await reactions.start()
    if chore is not None:
        beside.append(asyncio.create_task(_keep_doing(chore, Process(settings, outside, bus, verifier))))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while not stop.is_set():
        host = Host(
            registry,
            store,
            bus,
            outside,
            connection,
            admission,
            limiter,
            SystemClock(),
            service=service,
            name=name,
            principal=credential.principal,
            limits=limits(settings),
            lease_ttl=settings.lease,
            trouble=lambda: "" if preparing.done() else "it is being prepared",
            reports_health=reports_health,
        )
        hosts[:] = [host]
        await _serve_incarnation(host, stop, settings.drain_timeout)
    await reactions.close()
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    await bus.close()
    await connection.close()
    store.close()
    name.close()


def limits(settings: Settings) -> Limits:
    return Limits(
        records=Bounds(
            age=settings.request_id_age,
            tell_age=settings.tell_age,
            clients=settings.max_clients,
            records=settings.max_records,
        ),
        state=settings.max_state,
        mailbox=settings.max_mailbox,
        pending=settings.max_pending,
        outbox=settings.max_outbox,
        alarms=settings.max_alarms,
        alarm_rate=settings.alarm_rate,
        alarm_deadline=settings.alarm_deadline,
        idle_after=settings.idle_after,
        memory=settings.max_memory,
        default_deadline=settings.default_deadline,
        max_deadline=settings.max_deadline,
    )


async def _read_revocations(revocations: Revocations) -> None:
    try:
        async with asyncio.timeout(STORE_WITHIN):
            await revocations.loaded()
    except TimeoutError:
        raise SettingsError(
            f"within {STORE_WITHIN:.0f} s the stream of events could not be read at AIDEVOS_EVENT_BUS_URL, "
            "or at AIDEVOS_NATS_URL where that is not set"
        ) from None


async def _prepare(prepare: Preparation | None, outside: DurableObjectClient, settings: Settings) -> None:
    while prepare is not None:
        try:
            await prepare(outside, settings)
        except Failure as failure:
            log.warning("preparing the service failed, trying again: %s", failure)
            await asyncio.sleep(REJOIN_PAUSE)
        else:
            return


async def _keep_doing(chore: Chore, process: Process) -> None:
    while True:
        try:
            await chore(process)
        except Exception:
            log.exception("a chore of the service failed, it begins anew")
        await asyncio.sleep(CHORE_PAUSE)


async def _serve_incarnation(host: Host, stop: asyncio.Event, drain_timeout: float) -> None:
    try:
        await host.start()
    except (NatsError, OSError) as error:
        log.warning("joining the fleet failed, trying again: %s", error)
        await host.abandon()
        await asyncio.sleep(REJOIN_PAUSE)
        return
    waits = [asyncio.ensure_future(event.wait()) for event in (stop, host.lease.lost)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if host.lease.lost.is_set():
        await host.abandon()
    else:
        await host.drain(drain_timeout)


async def _open_store(store: MongoStore, registry: DurableObjectRegistry) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + STORE_WITHIN
    while True:
        try:
            for name, type in registry.types.items():
                searched = [index for search in type.cls.searches for index in search.indexes]
                await store.open(name, [*searched, *type.cls.indexes], type.cls.sparse_indexes)
        except StoreError as error:
            if loop.time() > end:
                raise SettingsError(f"AIDEVOS_MONGO_URL: {error}") from None
            await asyncio.sleep(REJOIN_PAUSE)
        else:
            return


def _said(error: SettingsError) -> int:
    print(f"aidevos: {error}", file=sys.stderr)
    return 2
