"""The gateway's own state for operators and tools: health, metrics, and the API's description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.routing import Route

from aidevos.contracts.errors import Failure
from aidevos.contracts.fleet import READ as READ_FLEET
from aidevos.contracts.fleet import FleetFigures, FleetHosts
from aidevos.contracts.health import PartProblem
from aidevos.observability.exposition import content_type, exposition, wants_openmetrics
from aidevos.observability.health import Health
from aidevos.process.shown_settings import SettingList, list_settings
from aidevos.settings import Settings

from ..console_pages import ROOT, Console
from ..docs import Docs
from ..document import Document
from ..documentation import Documentation
from ..fleet_metrics import FleetMetrics
from ..forwarder import Forwarder
from ..health import Readiness
from ..hosts import Hosts
from ..http import parameters
from ..http.charges import Charges
from ..http.dispatch import MethodDispatcher
from ..http.guard import Guard
from ..http.parameters import INTERNAL, switch
from ..http.request import HttpRequest
from ..http.responses import JSON_HEADER, HttpResponse
from ..http.versions import conditional_response
from ..live.endless_body import EVENT_STREAM, STREAM_HEADERS
from ..live.figures import Sampler
from ..live.subscriber import subscriber_of
from ..static_files import load_file
from .api_router import APIRouter
from .operation import Access, Operation, Text, get

LEFT_OUT = f"Internal types are left out by default; a caller with `{READ_FLEET}` can include them."
HOSTS = "List the processes that host objects"
ABOUT_HOSTS = """\
Each host describes itself: its service and replica, its present life (`incarnation`), the partitions that it owns of
each type, how many objects it has in memory and how many bytes they take. `state` is `serving`, `draining` while it
hands over its partitions, or `unhealthy`, of which `detail` gives the reason. A host that doesn't answer in time is
left out."""
METRICS = "Show metrics in Prometheus' text format or as OpenMetrics"
ABOUT_METRICS = """\
They are those of the gateway's process that answers, or of all processes of the fleet with `fleet=true`, where each has
the labels `service` and `replica`. A client that accepts `application/openmetrics-text` gets OpenMetrics with exemplars
that name traces."""
FLEET = switch("fleet", "Set to `true` to show the metrics of all processes of the fleet")
FIGURES = "Follow the figures of the fleet"
ABOUT_FIGURES = """\
An endless stream of server-sent events (WHATWG HTML §9.2): every two seconds an event `figures`, whose `data` is
`FleetFigures`. Rates need metrics, which `AIDEVOS_METRICS_PORT=0` switches off. `event: end` gives the reason why the
stream ends, as in `GET /events`. The processes count turns for `busiest` only while somebody follows."""
SETTINGS = "List the settings of the gateway"
ROOT_PATH: dict[str, Any] = {"about": "A browser is led to the console instead.", "others": {303: None}}
GUARDED: dict[str, Any] = {"access": Access.REQUIRED, "headers": ()}
SETTINGS_ARE: dict[str, Any] = GUARDED | {
    "permission": READ_FLEET,
    "about": "Each has its variable and where its value comes from. Values that may be secret are hidden.",
}
FIGURES_ARE: dict[str, Any] = GUARDED | {"permission": READ_FLEET, "about": ABOUT_FIGURES}
NO_STORE = (b"cache-control", b"no-store")
VARY = (b"vary", b"accept")
WELL = {
    "type": "object",
    "properties": {"ok": {"const": True}, "problems": {"type": "array", "items": {"type": "object"}}},
    "required": ["ok"],
}
INDEX, FULL = "List the pages of the documentation, as in llmstxt.org", "Show the documentation as one text"
TEXT: dict[str, Any] = {"response": Text("text/plain"), "headers": ("If-None-Match",)}
MODULE: dict[str, Any] = {"response": Text("text/javascript"), "headers": ("If-None-Match",)}
DOCUMENT: dict[str, Any] = {"response": dict[str, Any], "query": (INTERNAL,), "headers": ("If-None-Match",)}


class ServiceInfo(msgspec.Struct, kw_only=True):
    """The answer to `GET /`: what this service is, and the paths of its descriptions."""

    service: str = "AIDevOS"
    version: str = version("aidevos")
    openapi: str = "/openapi.json"
    asyncapi: str = "/asyncapi.json"
    documentation: str = "/docs"
    llms: str = "/llms.txt"
    console: str = ROOT
    health: str = "/health/ready"


class OperationRouter(APIRouter):
    """`/`, `/health`, `/fleet`, `/metrics`, the descriptions, `/docs`, `/client.js` and `/console`.

    `operators` guards internal information.
    """

    tag = "operation"
    about = "The gateway itself"
    types = (FleetFigures,)
    access = Access.PUBLIC

    def __init__(
        self,
        forwarder: Forwarder,
        settings: Settings,
        charges: Charges,
        readiness: Readiness,
        health: Health,
        openapi: Document,
        asyncapi: Document,
        hosts: Hosts,
        fleet_metrics: FleetMetrics,
        sampler: Sampler,
        operators: Guard,
    ) -> None:
        super().__init__(forwarder, settings, charges)
        self._readiness = readiness
        self._health = health
        self._openapi = openapi
        self._asyncapi = asyncapi
        self._hosts = hosts
        self._fleet_metrics = fleet_metrics
        self._sampler = sampler
        self._operators = operators
        self._documentation = Documentation(settings.public_url)
        self._docs = Docs(self._documentation)
        self._client = load_file("client.js")

    def routes(self, guard_of: Callable[[Operation], Guard]) -> list[Route]:
        """Return the routes, including the files of `/docs`, which are not operations of the API."""
        (page,) = (operation for operation in self.operations if operation.path == "/docs")
        files = MethodDispatcher({"GET": (guard_of(page), self._docs.file)})
        paths = ("/{file}", "/{folder}/{file}", "/{folder}/{folder2}/{file}")
        return [*super().routes(guard_of), *(Route(f"/docs{path}", files) for path in paths), *Console().routes()]

    @get("/", "service", "Name this service and its descriptions", response=ServiceInfo, **ROOT_PATH)
    async def service(self, request: HttpRequest) -> HttpResponse:
        if "text/html" in (request.header(b"accept") or ""):
            return HttpResponse(303, headers=((b"location", ROOT.encode()), VARY))
        return HttpResponse(200, msgspec.json.encode(ServiceInfo()), (JSON_HEADER, VARY))

    @get("/health/live", "live", "Check that the gateway runs", response=WELL)
    async def live(self, request: HttpRequest) -> HttpResponse:
        return _well(self._health.problems())

    @get("/health/ready", "ready", "Check that the whole fleet is ready", response=WELL)
    async def ready(self, request: HttpRequest) -> HttpResponse:
        problems = await self._readiness.find_problems()
        services = {each.service: each.detail for each in reversed(problems) if each.status == "fail"}
        if services:
            detail = "; ".join(f"{name}: {problem}" for name, problem in sorted(services.items()))
            raise Failure("unavailable", f"not ready: {detail}", extra={"services": services, "problems": problems})
        return _well(problems)

    @get("/openapi.json", "openapi", "Show this document", about=LEFT_OUT, **DOCUMENT)
    async def openapi(self, request: HttpRequest) -> HttpResponse:
        return await self._show(request, self._openapi)

    @get("/asyncapi.json", "asyncapi", "Show the AsyncAPI document of the NATS interface", about=LEFT_OUT, **DOCUMENT)
    async def asyncapi(self, request: HttpRequest) -> HttpResponse:
        return await self._show(request, self._asyncapi)

    @get("/docs", "docs", "Show this document as a page", response=Text("text/html"))
    async def docs(self, request: HttpRequest) -> HttpResponse:
        return self._docs.page

    @get("/client.js", "client", "Load the client for browsers and Node.js, an ES module", **MODULE)
    async def client(self, request: HttpRequest) -> HttpResponse:
        return conditional_response(request, self._client.respond(request))

    @get("/llms.txt", "llms", INDEX, **TEXT)
    async def llms(self, request: HttpRequest) -> HttpResponse:
        return conditional_response(request, self._documentation.index.respond(request))

    @get("/llms-full.txt", "llms_full", FULL, **TEXT)
    async def llms_full(self, request: HttpRequest) -> HttpResponse:
        return conditional_response(request, self._documentation.full.respond(request))

    @get("/fleet", "fleet", HOSTS, response=FleetHosts, permission=READ_FLEET, about=ABOUT_HOSTS, **GUARDED)
    async def fleet(self, request: HttpRequest) -> HttpResponse:
        _refuse_project_keys(request)
        return HttpResponse(200, msgspec.json.encode(await self._hosts.find()), (JSON_HEADER, NO_STORE))

    @get(
        "/metrics",
        "metrics",
        METRICS,
        response=Text("text/plain"),
        permission=READ_FLEET,
        about=ABOUT_METRICS,
        query=(FLEET,),
        **GUARDED,
    )
    async def metrics(self, request: HttpRequest) -> HttpResponse:
        _refuse_project_keys(request)
        with_exemplars = wants_openmetrics(request.header(b"accept") or "")
        if parameters.parse_flag(request.parameters, FLEET.name):
            content = await self._fleet_metrics.show(with_exemplars=with_exemplars)
        else:
            content = exposition(with_exemplars=with_exemplars)
        shown = content_type(with_exemplars=with_exemplars).encode()
        return HttpResponse(200, content, ((b"content-type", shown), NO_STORE))

    @get("/fleet/live", "follow_fleet", FIGURES, None, Text(EVENT_STREAM), **FIGURES_ARE)
    async def follow_fleet(self, request: HttpRequest) -> HttpResponse:
        _refuse_project_keys(request)
        if request.is_head:
            return HttpResponse(200, headers=STREAM_HEADERS)
        stream = self._sampler.open(subscriber_of(request), request.connection)
        return HttpResponse(200, headers=STREAM_HEADERS, chunks=stream)

    @get("/fleet/settings", "settings", SETTINGS, None, SettingList, **SETTINGS_ARE)
    async def settings(self, request: HttpRequest) -> HttpResponse:
        _refuse_project_keys(request)
        return HttpResponse(200, msgspec.json.encode(SettingList(list_settings())), (JSON_HEADER, NO_STORE))

    async def _show(self, request: HttpRequest, document: Document) -> HttpResponse:
        internal = parameters.parse_flag(request.parameters, INTERNAL.name)
        if internal:
            await self._operators.admit(request.scope, request.headers)
        content, etag = document.current(internal)
        headers = (JSON_HEADER, (b"cache-control", b"no-cache"), (b"etag", etag.encode()))
        return conditional_response(request, HttpResponse(200, content, headers))


def _well(problems: Sequence[PartProblem]) -> HttpResponse:
    """Return the answer of what is ready, with problems that don't keep it from its work."""
    if not problems:
        return HttpResponse(200, b'{"ok":true}', (JSON_HEADER, NO_STORE))
    return HttpResponse(200, msgspec.json.encode({"ok": True, "problems": problems}), (JSON_HEADER, NO_STORE))


def _refuse_project_keys(request: HttpRequest) -> None:
    if request.principal.project:
        raise Failure("forbidden", "this API key is valid only within its project")
