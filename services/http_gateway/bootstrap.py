"""The composition root: settings in, a serving gateway out; production and tests both come through here."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial

import uvicorn
from nats.aio.client import Client
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from aidevos.contracts.audit import READ_AUDIT
from aidevos.contracts.rate_limits import MANAGE_LIMITS
from aidevos.contracts.routes import CHANGED, LIST_SUBJECT, RoutePage
from aidevos.contracts.subjects import TYPES_BUCKET
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.mirror import Mirror, read_all
from aidevos.feeds.audience import READ_EVENTS, Audience
from aidevos.observability import logs, metrics
from aidevos.process.collector import collect_rarely
from aidevos.process.stack import Access, background, open_connection
from aidevos.security.credentials import ServiceCredential
from aidevos.security.keys import load_public_keys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import Settings, SettingsError, cors_origins, load

from . import asyncapi, openapi
from .calls import Calls
from .catalogue import Catalogue
from .cookies import Cookies
from .declared import MAX_ROUTES, Declarations, DeclaredRoutes, not_found
from .document import Document
from .health import Readiness
from .live.hub import Hub, Limits
from .live.reader import Reader, reading
from .middleware.answering import Answering
from .middleware.cors import Cors
from .protocol import ProblemProtocol
from .resource import Guard, OpenDoor
from .routers.api_keys import ApiKeyRouter
from .routers.audit import AuditRouter
from .routers.auth import AuthRouter
from .routers.confirmation import ConfirmationRouter
from .routers.data import DataRouter
from .routers.data_transfer import DataTransferRouter
from .routers.dead_letters import DeadLetterRouter
from .routers.events import EventRouter
from .routers.examples import ExampleRouter
from .routers.mfa import MfaRouter
from .routers.objects import DurableObjectRouter
from .routers.operation import OperationRouter
from .routers.projects import ProjectRouter
from .routers.rate_limits import RateLimitRouter
from .routers.roles import RoleRouter
from .routers.routes import RouteRouter
from .routers.users import UserRouter
from .routers.webhooks import WebhookRouter
from .segments import Segments

SERVICE = "http_gateway"
# The service of declared routes.
ROUTES_FROM = "api_gateway"
START_WITHIN = 30.0
RETRY_AFTER = 0.2
KEEP_ALIVE = 60


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[ASGIApp]:
    """The gateway's ASGI application, connected; raises `SettingsError` when there is nothing to connect to."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(START_WITHIN):
                app = await _open(settings, stack)
        except TimeoutError:
            raise SettingsError(
                f"within {START_WITHIN:.0f} s there was no fleet: keys under AIDEVOS_HOME={settings.home}, "
                f"and at AIDEVOS_NATS_URL a server that knows this user and has the bucket {TYPES_BUCKET}"
            ) from None
        yield app


async def _open(settings: Settings, stack: contextlib.AsyncExitStack) -> ASGIApp:
    """Open what the application is built on, for `stack` to close."""
    fleet = await stack.enter_async_context(open_connection(settings, SERVICE, lambda: ""))
    verifier = await _verifier(settings)
    catalogue = Catalogue(fleet.connection)
    await stack.enter_async_context(background(catalogue.follow()))
    await catalogue.loaded()
    credential = ServiceCredential(settings, SERVICE)
    access = Access(settings, fleet, verifier, credential.authorization)
    declarations = Declarations(awaited=ROUTES_FROM in _services(settings))
    routes = Mirror(access.events, "routes", CHANGED, partial(_read_routes, fleet.client, credential, declarations))
    await stack.enter_async_context(access.following(routes))
    calls = Calls(fleet.client, credential.authorization, settings)
    audience: Audience[Reader] = Audience(reading(calls, credential.authorization))
    hub = Hub(fleet.bus, audience, access.admission, Limits(settings.max_streams, settings.max_caller_streams))
    await stack.enter_async_context(background(hub.follow()))
    return build(settings, fleet.connection, calls, catalogue, access.admission, access.limiter, declarations, hub)


def build(
    settings: Settings,
    connection: Client,
    calls: Calls,
    catalogue: Catalogue,
    admission: Admission,
    limiter: RateLimiter,
    declarations: Declarations,
    hub: Hub,
) -> ASGIApp:
    objects = DurableObjectRouter(calls, catalogue, settings)
    operation = OperationRouter(
        Readiness(connection, _services(settings), declarations),
        Document(
            lambda: openapi.describe(catalogue.descriptions, declarations.routes),
            lambda: (catalogue.generation, declarations.generation),
        ),
        Document(lambda: asyncapi.describe(catalogue.descriptions), lambda: catalogue.generation),
    )
    cookies = Cookies(settings)
    guard = partial(Guard, admission, limiter, cookies)
    routes = objects.routes(guard("objects:manage"), guard("objects:request"))
    routes += operation.routes(guard("fleet:read"))
    routes += AuthRouter(calls, settings, cookies).routes(guard(), OpenDoor(limiter))
    routes += ConfirmationRouter(calls).routes(guard(), OpenDoor(limiter))
    routes += MfaRouter(calls).routes(guard())
    routes += UserRouter(calls).routes(guard())
    routes += RoleRouter(calls).routes(guard())
    routes += DeadLetterRouter(calls).routes(guard())
    routes += AuditRouter(calls).routes(guard(READ_AUDIT))
    routes += DataTransferRouter(calls).routes(guard(strangers=True))
    routes += ApiKeyRouter(calls).routes(guard())
    routes += WebhookRouter(calls).routes(guard())
    routes += RouteRouter(calls).routes(guard())
    routes += ProjectRouter(calls).routes(guard())
    routes += ExampleRouter().routes()
    routes += EventRouter(hub).routes(guard(READ_EVENTS))
    routes += RateLimitRouter(calls).routes(guard(MANAGE_LIMITS))
    routes += DataRouter(calls, settings).routes(guard(strangers=True))
    declared = DeclaredRoutes(declarations, catalogue, calls, guard(), limiter, settings)
    app = Answering(Segments(routes, default=declared), settings.public_url)
    origins = cors_origins(settings.cors_origins)
    return Cors(app, origins) if origins else app


class Application:
    """What uvicorn serves: `running`, from the server's start to its end."""

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
            async with running(self._settings) as self._app:
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except SettingsError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})


def create_application() -> Application:
    """The application of a worker process."""
    settings = load()
    logs.configure(settings.log_level, SERVICE)
    collect_rarely()
    return Application(settings)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first. Exits by `SystemExit`."""
    logs.configure(settings.log_level, SERVICE)
    config = server_config(settings, f"{__name__}:{create_application.__name__}", factory=True)
    listener = _listen(settings)
    if settings.workers == 1:
        server = uvicorn.Server(config)
        with contextlib.suppress(SystemExit):
            server.run([listener])
        sys.exit(0 if server.started else 2)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[metrics.MULTIPROCESS_FOLDER] = folder
        Multiprocess(config, [listener]).run()


def server_config(settings: Settings, application: ASGIApp | str, factory: bool = False) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        application,
        factory=factory,
        interface="asgi3",
        loop="uvloop",
        http=ProblemProtocol,
        ws="none",
        lifespan="on",
        workers=settings.workers,
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, int(settings.drain_timeout)),
    )


def _end_with_parent() -> None:
    """A worker whose parent has died ends as if it were told to, so that it doesn't keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def died() -> None:
        loop.remove_reader(parent.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, died)


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


async def _verifier(settings: Settings) -> TokenVerifier:
    while True:
        with contextlib.suppress(FileNotFoundError):
            return TokenVerifier(lambda: load_public_keys(settings.home), settings.public_url)
        await asyncio.sleep(RETRY_AFTER)


async def _read_routes(client: DurableObjectClient, credential: ServiceCredential, declarations: Declarations) -> None:
    declarations.set(await read_all(client, credential.authorization(), LIST_SUBJECT, RoutePage, MAX_ROUTES))


def _services(settings: Settings) -> tuple[str, ...]:
    return tuple(name.strip() for name in settings.services.split(",") if name.strip())
