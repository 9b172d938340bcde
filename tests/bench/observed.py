"""Measures the CPU time that metrics and traces add to a request over HTTP.

Three fleets with servers of their own stand side by side: without both, with metrics, and with metrics and traces of
which one in a hundred is recorded. They are loaded in turn, so the pace of the machine changes for all alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import psutil

from tests.bench.cases import OBJECTS, http_order, post
from tests.bench.comparison import Compared
from tests.bench.load import Load, Order, Sample
from tests.bench.processes import ProductionServers, start
from tests.support.servers import free_port
from tests.support.world import wait_ready

NOTHING, METRICS, TRACES = "without metrics and traces", "metrics", "metrics and 1 % of traces"
METHODS = {"query": "value", "command": "increment"}
SERVICES = ("objects", "api_gateway", "authentication", "user_management", "http_gateway")
USERS = {"http_gateway": "gateway"}
IN_FLIGHT = 64
SECONDS = 4.0
AT_MOST = 1.05
DATABASE = "observed"


class Fleet(NamedTuple):
    url: str
    authorization: str
    processes: list[psutil.Process]

    def order(self, method: str, seconds: float) -> Order:
        body, header = b'{"method":"%b"}' % method.encode(), f"Authorization: {self.authorization}\r\n"
        paths = (f"/durable-objects/counter:c{number}/request" for number in range(OBJECTS))
        requests = [post(path, body, header) for path in paths]
        return http_order(self.url, requests, IN_FLIGHT, seconds)

    def cpu(self) -> float:
        """Return the CPU seconds that its processes and servers have used."""
        return float(sum(sum(process.cpu_times()[:2]) for process in self.processes))


def measure(rounds: int, say: Callable[[str], None]) -> list[Compared]:
    with ExitStack() as stack:
        load = stack.enter_context(closing(Load()))
        collector = stack.enter_context(_collector())
        sampled = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        }
        settings: dict[str, dict[str, str]] = {NOTHING: {"AIDEVOS_METRICS_PORT": "0"}, METRICS: {}, TRACES: sampled}
        fleets = {name: stack.enter_context(_fleet(wanted)) for name, wanted in settings.items()}
        for fleet in fleets.values():
            load.run(fleet.order("increment", SECONDS))
        found: dict[tuple[str, str], list[Sample]] = {}
        for turn in range(rounds):
            for operation, method in METHODS.items():
                for name, fleet in list(fleets.items())[:: 1 if turn % 2 == 0 else -1]:
                    say(f"round {turn + 1} of {rounds}: {operation}, {name}")
                    found.setdefault((operation, name), []).append(_spend(fleet, load, method))
    return [
        Compared(
            f"HTTP {operation}, {name}", NOTHING, "p99", found[operation, name], found[operation, NOTHING], None,
            AT_MOST, "µs CPU",
        )
        for operation in METHODS
        for name in (METRICS, TRACES)
    ]  # fmt: skip


def _spend(fleet: Fleet, load: Load, method: str) -> Sample:
    """Return the microseconds of CPU time of each request, in the place of latencies."""
    before = fleet.cpu()
    sample = load.run(fleet.order(method, SECONDS))
    cost = 1e6 * (fleet.cpu() - before) / sample.count
    return Sample(sample.rate, cost, cost)


@contextmanager
def _fleet(settings: dict[str, str]) -> Iterator[Fleet]:
    port = free_port()
    with closing(ProductionServers()) as servers:
        servers.start()
        home = str(servers.home)
        counted = [child for child in psutil.Process().children() if home in " ".join(child.cmdline())]
        shared = {"AIDEVOS_EVENT_BUS_URL": "", **settings}
        processes = []
        for service in SERVICES:
            own = {"AIDEVOS_PORT": str(port), "AIDEVOS_SERVICES": ",".join(SERVICES[:-1])}
            user = USERS.get(service, service)
            processes.append(start(servers, f"services.{service}", user, DATABASE, **shared, **own))
        counted += [psutil.Process(process.pid) for process in processes]
        url = f"http://127.0.0.1:{port}"
        try:
            wait_ready(url, processes)
            authorization = "Bearer " + servers.issuer().issue("bench", roles=("admin",), lifetime=86_400.0)
            yield Fleet(url, authorization, counted)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)


class _Sink(BaseHTTPRequestHandler):
    """Takes whatever an exporter sends."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def _collector() -> Iterator[str]:
    """Run a collector of traces that keeps nothing; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
