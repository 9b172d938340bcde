"""Measures the CPU time that metrics and traces add to a request over HTTP.

One fleet turns both off and on while it runs, and is loaded in turn without both, with metrics, and with metrics and
traces of which one in a hundred is recorded. Fleets of their own would differ by more than what is measured: two that
were alike differed by up to a sixth.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import psutil

from tests.bench.cases import OBJECTS, http_order, post
from tests.bench.comparison import Compared
from tests.bench.load import Load, Order, Sample
from tests.bench.processes import ProductionServers, start
from tests.support.servers import free_port
from tests.support.world import wait_ready


class Observed(NamedTuple):
    """What of requests is observed."""

    metrics: bool
    traces: bool


NOTHING, METRICS, TRACES = "without metrics and traces", "metrics", "metrics and 1 % of traces"
CASES = {NOTHING: Observed(False, False), METRICS: Observed(True, False), TRACES: Observed(True, True)}
METHODS = {"query": "value", "command": "increment"}
SERVICES = ("objects", "api_gateway", "authentication", "user_management", "http_gateway")
USERS = {"http_gateway": "gateway"}
IN_FLIGHT = 64
SECONDS = 2.0
# Rounds for each of the program's, since a short one sees the machine at one pace.
ROUNDS = 4
AT_MOST = 1.05
DATABASE = "observed"
# Seconds until all processes have taken a signal.
SWITCHING = 0.1


class Fleet:
    """A running fleet, at `url`. `services` are its processes and `servers` those of its servers."""

    def __init__(
        self,
        url: str,
        authorization: str,
        services: list[subprocess.Popen[bytes]],
        servers: list[psutil.Process],
    ) -> None:
        self._url = url
        self._authorization = authorization
        self._services = services
        self._counted = [*servers, *(psutil.Process(service.pid) for service in services)]
        self._observed = Observed(True, True)

    def switch(self, wanted: Observed) -> None:
        """Observe only this from now on."""
        signals = zip((signal.SIGUSR1, signal.SIGUSR2), wanted, self._observed, strict=True)
        for number in [number for number, to_be, is_now in signals if to_be != is_now]:
            for service in self._services:
                service.send_signal(number)
        self._observed = wanted
        time.sleep(SWITCHING)

    def order(self, method: str) -> Order:
        body, header = b'{"method":"%b"}' % method.encode(), f"Authorization: {self._authorization}\r\n"
        paths = (f"/durable-objects/counter:c{number}/request" for number in range(OBJECTS))
        requests = [post(path, body, header) for path in paths]
        return http_order(self._url, requests, IN_FLIGHT, SECONDS)

    def cpu(self) -> float:
        """Return the CPU seconds that its processes and servers have used."""
        return float(sum(sum(process.cpu_times()[:2]) for process in self._counted))


def measure(rounds: int, say: Callable[[str], None]) -> list[Compared]:
    with closing(Load()) as load, _collector() as collector, _fleet(collector) as fleet:
        load.run(fleet.order("increment"))
        found: dict[tuple[str, str], list[Sample]] = {}
        for turn in range(rounds * ROUNDS):
            for operation, method in METHODS.items():
                for name, wanted in list(CASES.items())[:: 1 if turn % 2 == 0 else -1]:
                    say(f"round {turn + 1} of {rounds * ROUNDS}: {operation}, {name}")
                    fleet.switch(wanted)
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
    sample = load.run(fleet.order(method))
    cost = 1e6 * (fleet.cpu() - before) / sample.count
    return Sample(sample.rate, cost, cost)


@contextmanager
def _fleet(collector: str) -> Iterator[Fleet]:
    """Run a fleet that records one trace in a hundred, and sends it to this collector."""
    port = free_port()
    with closing(ProductionServers()) as servers:
        servers.start()
        home = str(servers.home)
        counted = [child for child in psutil.Process().children() if home in " ".join(child.cmdline())]
        settings = {
            "AIDEVOS_EVENT_BUS_URL": "",
            "AIDEVOS_PORT": str(port),
            "AIDEVOS_SERVICES": ",".join(SERVICES[:-1]),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        }
        services = [
            start(servers, f"tests.bench.switched {service}", USERS.get(service, service), DATABASE, **settings)
            for service in SERVICES
        ]
        url = f"http://127.0.0.1:{port}"
        try:
            wait_ready(url, services)
            authorization = "Bearer " + servers.issuer().issue("bench", roles=("admin",), lifetime=86_400.0)
            yield Fleet(url, authorization, services, counted)
        finally:
            for service in services:
                service.terminate()
            for service in services:
                service.wait(20)


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
