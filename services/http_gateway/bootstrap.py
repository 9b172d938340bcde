"""The composition root: it makes a serving gateway from settings, in production and in tests."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import cache, partial
from importlib.metadata import version
from types import FrameType
from typing import cast

import msgspec
import uvicorn
from nats.aio.client import Client
from nats.aio.msg import Msg
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from aidevos.contracts import fleet, subjects
from aidevos.contracts.routes import CHANGED, LIST_SUBJECT, RoutePage
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.mirror import Mirror, read_all
from aidevos.feeds.audience import Audience
from aidevos.observability import logs
from aidevos.observability.health import Health
from aidevos.process.answering import Answering, nats_answering, wait_for_loss
from aidevos.process.collector import collect_rarely
from aidevos.process.death_reports import reporting_deaths
from aidevos.process.observation import observing
from aidevos.process.presence import Presence, keep_present, open_presence
from aidevos.process.probes import answering_probes
from aidevos.process.scraping import GatewayAnswers, showing_metrics
from aidevos.process.stack import AccessControl, background, open_connection
from aidevos.process.stopping import LEAVE_LOST_WITHIN, leave_within, stop_signalled
from aidevos.security.credentials import ServiceCredential
from aidevos.security.service_keys import VerificationKeys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import Settings, SettingsError, cors_origins, load

from .catalogue import TypeCatalogue
from .declared_routes import MAX_ROUTES, DeclaredRoutes, RouteTable, not_found
from .description import asyncapi, openapi
from .document import Document
from .endpoints.agents import AgentRouter
from .endpoints.api_router import APIRouter
from .endpoints.auth import AuthRouter
from .endpoints.events import EventRouter
from .endpoints.objects import DurableObjectRouter
from .endpoints.operation import Access, Operation
from .endpoints.operations import OperationRouter
from .endpoints.routers import ROUTERS
from .endpoints.transfers import TransferRouter
from .endpoints.versions import VersionRouter
from .fleet_metrics import FleetMetrics
from .forwarder import Forwarder
from .health import Readiness
from .hosts import Hosts
from .http.charges import Charges
from .http.cookies import Cookies
from .http.guard import AnonymousGuard, CredentialGuard, Guard, PublicGuard
from .http.paths import Paths
from .http.protocol import ConnectionLimits, ProblemProtocol
from .live.figures import Sampler
from .live.hub import Hub
from .live.readers import Readers, StreamLimits
from .live.subscriber import Subscriber, request_as_reader
from .middleware.cors import Cors
from .middleware.responses import ResponseMiddleware, describe_request

log = logging.getLogger(__name__)
SERVICE = "http_gateway"
# The service that stores declared routes.
ROUTES_FROM = "api_gateway"
START_WITHIN = 30.0
RETRY_AFTER = 0.2


@contextlib.asynccontextmanager
async def open_application(settings: Settings, stop: asyncio.Event | None = None) -> AsyncIterator[ASGIApp]:
    """Open the gateway's ASGI application, connected to the fleet.

    Once `stop` is set, the process ends soon if NATS doesn't answer. Raises `SettingsError` if the fleet can't be
    reached within `START_WITHIN` seconds.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(START_WITHIN):
                app = await _open(settings, stack, stop or asyncio.Event())
        except TimeoutError:
            raise SettingsError(
                f"no fleet was found within {START_WITHIN:.0f} s: it needs keys under AIDEVOS_HOME={settings.home}, "
                f"and at AIDEVOS_NATS_URL a server that knows this user and has the bucket {subjects.TYPES_BUCKET}"
            ) from None
        yield app


async def _open(settings: Settings, stack: contextlib.AsyncExitStack, stop: asyncio.Event) -> ASGIApp:
    """Build the application; `stack` closes the connections that it opens."""
    fleet = await stack.enter_async_context(open_connection(settings, SERVICE, lambda: ""))
    await stack.enter_async_context(reporting_deaths(settings.home, SERVICE, settings.replica, fleet.bus))
    health, nats = Health(), nats_answering(fleet.connection)
    health.watch(nats.name, nats.find_problem)
    verifier = await _load_verifier(settings)
    catalogue = TypeCatalogue(fleet.connection)
    await stack.enter_async_context(background(catalogue.follow))
    await catalogue.wait_until_loaded()
    credential = ServiceCredential(settings, SERVICE)
    control = AccessControl(settings, fleet, verifier, credential)
    table = RouteTable(is_awaited=ROUTES_FROM in _service_names(settings))
    routes = Mirror(control.events, "routes", CHANGED, partial(_read_routes, fleet.client, credential, table))
    await stack.enter_async_context(control.following(routes))
    forwarder = Forwarder(fleet.client, credential.authorization, settings)
    audience: Audience[Subscriber] = Audience(request_as_reader(forwarder, credential.authorization))
    readers = Readers(control.admission, StreamLimits(settings.max_streams, settings.max_caller_streams))
    hub, sampler = Hub(fleet.bus, audience, readers), Sampler(fleet.connection, readers)
    await stack.enter_async_context(background(hub.follow, sampler.keep_sampling, readers.keep_checking))
    await fleet.connection.subscribe(subjects.health(SERVICE), cb=partial(_report_health, settings.replica, health))
    readiness = Readiness(fleet.connection, _service_names(settings), table)
    present = partial(_describe, settings.replica, time.time(), health)
    file = stack.enter_context(open_presence(settings.home, SERVICE))
    await stack.enter_async_context(background(partial(keep_present, file, present)))
    looks = (nats.run, health.keep_looking, readiness.keep_looking, partial(_leave_if_lost, stop, nats))
    await stack.enter_async_context(background(*looks))
    await stack.enter_async_context(answering_probes(settings, health))
    replica = _replica(settings)
    await stack.enter_async_context(showing_metrics(settings, SERVICE, replica, version("aidevos"), health))
    await GatewayAnswers(fleet.connection, SERVICE, replica, health).start()
    parts = (forwarder, catalogue, control.admission, control.limiter, table, hub, sampler, readiness, health)
    return build(settings, fleet.connection, *parts)


def build(
    settings: Settings,
    connection: Client,
    forwarder: Forwarder,
    catalogue: TypeCatalogue,
    admission: Admission,
    limiter: RateLimiter,
    table: RouteTable,
    hub: Hub,
    sampler: Sampler,
    readiness: Readiness,
    health: Health,
) -> ASGIApp:
    cookies = Cookies(settings)
    credentials = partial(CredentialGuard, admission, limiter, cookies)
    charges = Charges(limiter)
    hosts = Hosts(connection)
    operations = OperationRouter(
        forwarder,
        settings,
        charges,
        readiness,
        health,
        Document(
            lambda internal: openapi.describe(catalogue.descriptions, table.routes, internal),
            lambda: (catalogue.generation, table.generation),
        ),
        Document(lambda internal: asyncapi.describe(catalogue.descriptions, internal), lambda: catalogue.generation),
        hosts,
        FleetMetrics(connection),
        sampler,
        credentials(fleet.READ),
    )
    agents = AgentRouter(forwarder, settings, charges)
    special: dict[type[APIRouter], APIRouter] = {
        AgentRouter: agents,
        AuthRouter: AuthRouter(forwarder, settings, charges, cookies),
        DurableObjectRouter: DurableObjectRouter(forwarder, settings, charges, catalogue),
        VersionRouter: VersionRouter(forwarder, settings, charges, catalogue),
        TransferRouter: TransferRouter(forwarder, settings, charges, catalogue, hosts),
        EventRouter: EventRouter(forwarder, settings, charges, hub),
        OperationRouter: operations,
    }
    routers = [special.get(router) or router(forwarder, settings, charges) for router in ROUTERS]
    guard_of = _guards(credentials, AnonymousGuard(limiter))
    routes = [route for router in routers for route in router.routes(guard_of)]
    declared = DeclaredRoutes(
        table, catalogue, forwarder, credentials(), credentials(allow_anonymous=True), limiter, settings
    )
    app = ResponseMiddleware(Paths(routes, default=declared), settings.public_url, logs_access=settings.access_log)
    agents.app = app
    origins = cors_origins(settings.cors_origins)
    return Cors(app, origins) if origins else app


def _guards(credentials: Callable[..., Guard], anonymous: Guard) -> Callable[[Operation], Guard]:
    """Return a function that finds the guard of an operation; operations of the same rule share one."""
    public = PublicGuard()

    @cache
    def find(access: Access | None, permission: str | None) -> Guard:
        if access is Access.PUBLIC:
            return public
        if access is Access.OPEN:
            return anonymous
        return credentials(permission or "", allow_anonymous=access is Access.OPTIONAL)

    return lambda operation: find(operation.access, operation.permission)


async def _report_health(replica: int, health: Health, message: Msg) -> None:
    await message.respond(msgspec.json.encode(health.report(SERVICE, replica)))


def _describe(replica: int, since: float, health: Health) -> Presence:
    return Presence(service=SERVICE, replica=replica, pid=os.getpid(), since=since, problems=health.problems())


async def _leave_if_lost(stop: asyncio.Event, nats: Answering) -> None:
    await stop.wait()
    log.warning("stopping without delay: %s", await wait_for_loss([nats]))
    leave_within(LEAVE_LOST_WITHIN)


def _replica(settings: Settings) -> str:
    """Return the number of this gateway among its replicas, with its PID where each has several processes."""
    return str(settings.replica) if settings.workers == 1 else f"{settings.replica}.{os.getpid()}"


class Application:
    """The application that uvicorn serves: `open_application` for the life of the server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app: ASGIApp = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        _end_with_parent()
        try:
            with observing(self._settings, SERVICE), stop_signalled() as stop:
                async with open_application(self._settings, stop) as self._app:
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
        except SettingsError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})


def create_application() -> Application:
    """Return the application of a worker process."""
    settings = load()
    logs.configure(settings, SERVICE, describe_request)
    collect_rarely()
    return Application(settings)


def main() -> None:
    """Serve with the settings of the environment; an invalid setting ends the process with one line and status 2."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Run the gateway.")
    parser.add_argument("--fd", type=int, help="number of an inherited socket that listens already")
    descriptor = parser.parse_args().fd
    try:
        settings = load()
        serve(settings, _listen(settings) if descriptor is None else socket.socket(fileno=descriptor))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


class Server(uvicorn.Server):
    """A server that a signal ends with status 0, because it has finished its requests by then."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, after which requests in progress finish. Exits by `SystemExit`."""
    logs.configure(settings, SERVICE, describe_request)
    config = server_config(settings, f"{__name__}:{create_application.__name__}", factory=True)
    if settings.workers == 1:
        server = Server(config)
        with contextlib.suppress(SystemExit):
            server.run([listener])
        sys.exit(0 if server.started else 2)
    Multiprocess(config, [listener]).run()


def server_config(settings: Settings, application: ASGIApp | str, factory: bool = False) -> uvicorn.Config:
    """Return uvicorn's configuration for the application."""
    limits = ConnectionLimits(settings.head_timeout, settings.idle_timeout, settings.body_rate)
    return uvicorn.Config(
        application,
        factory=factory,
        interface="asgi3",
        loop="uvloop",
        http=cast(type[asyncio.Protocol], partial(ProblemProtocol, limits=limits)),
        ws="none",
        lifespan="on",
        workers=settings.workers,
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        server_header=False,
        timeout_keep_alive=int(settings.idle_timeout),
        timeout_graceful_shutdown=max(1, int(settings.drain_timeout)),
    )


def _end_with_parent() -> None:
    """End this worker as if by SIGTERM when its parent dies, so that it doesn't keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(parent.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, end)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        place = f"AIDEVOS_HOST={settings.host}, AIDEVOS_PORT={settings.port}"
        print(f"can't listen on {place}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    listener.set_inheritable(True)
    return listener


async def _load_verifier(settings: Settings) -> TokenVerifier:
    while True:
        with contextlib.suppress(FileNotFoundError):
            return TokenVerifier(VerificationKeys(settings.home), settings.public_url)
        await asyncio.sleep(RETRY_AFTER)


async def _read_routes(client: DurableObjectClient, credential: ServiceCredential, table: RouteTable) -> None:
    table.set(await read_all(client, credential.authorization(), LIST_SUBJECT, RoutePage, MAX_ROUTES))


def _service_names(settings: Settings) -> tuple[str, ...]:
    return tuple(name.strip() for name in settings.services.split(",") if name.strip())
