"""`python -m tests.bench`: measures the throughput of both entry points against simple floors.

One run starts everything as processes: servers as in production, the services, the floors and the load.
Compared measurements run side by side, in several rounds.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx2
import psutil

from aidevos.settings import SettingsError, load
from tests.bench import (
    accounts,
    alarms,
    data,
    events,
    footprint,
    gateway,
    hosts,
    observed,
    requests,
    steadiness,
    stored,
    streams,
    tells,
)
from tests.bench.cases import Stage, orders
from tests.bench.comparison import Compared, compare
from tests.bench.load import Load, Order
from tests.bench.processes import ProductionServers, running, start
from tests.bench.report import Measure, Measures, Report, report, save, table
from tests.support.servers import Servers, free_port

DATABASE = "bench"
START_WITHIN = 20.0
LIFETIME = 86_400.0
PARTS = (
    "requests",
    "objects",
    "accounts",
    "gateway",
    "data",
    "tells",
    "alarms",
    "events",
    "streams",
    "stored",
    "hosts",
    "observed",
    "steadiness",
    "footprint",
)
ITEMS = 20_000
MANY_ITEMS = 1_000_000


@contextmanager
def stage() -> Iterator[Stage]:
    """Start everything that takes part, except the load."""
    with ExitStack() as stack:
        servers = stack.enter_context(closing(ProductionServers()))
        servers.start()
        urls = [stack.enter_context(_floor(servers, name)) for name in ("echo", "http-echo", "plain")]
        world = stack.enter_context(running(servers, DATABASE))
        authorization = "Bearer " + world.issuer.issue("bench", roles=("admin",), lifetime=LIFETIME)
        yield Stage(world, authorization, http_echo=urls[1], plain=urls[2])


@contextmanager
def _floor(servers: Servers, name: str) -> Iterator[str]:
    port = free_port()
    process = start(servers, f"tests.bench.floors {name}", "fleet", DATABASE, AIDEVOS_PORT=str(port))
    url = f"http://127.0.0.1:{port}"
    try:
        if name != "echo":
            _wait_answers(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(START_WITHIN)


def _wait_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx2.get(url)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the floor at {url} did not start")


def measure(load: Load, order: Order) -> Measure:
    before = _times()
    started = time.monotonic()
    sample = load.run(order)
    elapsed = time.monotonic() - started
    cores = {name: (spent - before[name]) / elapsed for name, spent in _times().items()}
    return Measure(sample, cores)


def _times() -> dict[str, float]:
    """Return the CPU seconds of each child process by its label."""
    return {_label(child): sum(child.cpu_times()[:2]) for child in psutil.Process().children()}


def _label(process: psutil.Process) -> str:
    words = process.cmdline()
    module = " ".join(words[words.index("-m") + 1 :]) if "-m" in words else Path(words[0]).name
    return module.removeprefix("services.").removeprefix("tests.bench.")


def run(seconds: float, rounds: int, parts: set[str]) -> Report:
    steady = measure_steadiness() if "steadiness" in parts else []
    idle = [footprint.measure(rounds, _say)] if "footprint" in parts else []
    of_fleets = measure_hosts(rounds) if "hosts" in parts else []
    of_fleets += observed.measure(rounds, _say) if "observed" in parts else []
    if parts <= {"hosts", "observed", "steadiness", "footprint"}:
        return report({}, of_fleets, steady, footprint=idle)
    with stage() as ready, closing(Load()) as load, closing(Load()) as background:
        compared_requests = measure_requests(ready, load, seconds, rounds) if "requests" in parts else []
        measures = measure_objects(ready, load, seconds, rounds) if "objects" in parts else {}
        wanted = []
        if "accounts" in parts:
            wanted += accounts.comparisons(ready, seconds, accounts.prepare(ready))
        if "data" in parts:
            items = MANY_ITEMS if os.environ.get("FULL") else ITEMS
            wanted += data.comparisons(ready, seconds, *data.prepare(ready, items))
        with ExitStack() as stack:
            if "gateway" in parts:
                several = stack.enter_context(gateway.gateways(ready))
                wanted += gateway.comparisons(ready, seconds, gateway.prepare(ready), several)
            compared = compare(wanted, rounds, load, background, _say)
        if "tells" in parts:
            _say("tells")
            compared += tells.measure(ready, seconds, rounds)
        if "alarms" in parts:
            _say("alarms")
            compared += alarms.measure(ready)
        if "events" in parts:
            _say("events")
            compared += events.measure(ready, seconds, rounds)
        if "streams" in parts:
            _say("streams")
            compared += streams.measure(ready)
        if "stored" in parts:
            _say("stored objects")
            compared += stored.measure(ready, seconds, rounds, MANY_ITEMS if os.environ.get("FULL") else ITEMS)
    _say("")
    return report(measures, compared + of_fleets, steady, compared_requests, idle)


def measure_requests(ready: Stage, load: Load, seconds: float, rounds: int) -> list[requests.Result]:
    with _floor(ready.world.servers, "outbox") as outbox:
        return requests.measure(ready, outbox, seconds, rounds, load, _say)


def measure_hosts(rounds: int) -> list[Compared]:
    compared = hosts.measure(rounds, _say)
    _say("")
    return compared


def measure_steadiness() -> list[steadiness.Steadiness]:
    measured = []
    for name in steadiness.NAMES:
        _say(f"steadiness: {name}")
        measured.append(steadiness.measure(name))
    return measured


def measure_objects(ready: Stage, load: Load, seconds: float, rounds: int) -> Measures:
    """Take each measurement once per round, in reverse order every other round."""
    measures: Measures = {}
    wanted = orders(ready, seconds)
    for name, order in orders(ready, 1.0).items():
        if "command" in name and "alone" not in name:
            load.run(order)  # creates and activates the objects for the measurements
    for turn in range(rounds):
        for name, order in list(wanted.items())[:: 1 if turn % 2 == 0 else -1]:
            _say(f"round {turn + 1} of {rounds}: {name}")
            measures.setdefault(name, []).append(measure(load, order))
    return measures


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, action="append", help="one of the parts, by default all")
    parser.add_argument("--check", action="store_true", help="exit with status 1 when a target is missed")
    parser.add_argument("--quick", action="store_true", help="only requests, in one round of a second")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds, options.only = 1.0, 1, options.only or ["requests"]
    os.environ.setdefault("AIDEVOS_LOG_LEVEL", "ERROR")
    os.environ.update(AIDEVOS_RATE_LIMIT="1000000", AIDEVOS_RATE_BURST="10000000")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        home = load().home
        result = run(options.seconds, options.rounds, set(options.only or PARTS))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(result))
    print("\nEcho: bare nats-py, or bare Starlette on it. Plain: Starlette and motor, at 64 in flight or alone.")
    print(f"Every sample is in {save(result, home)}")
    return int(options.check and result.missed)


if __name__ == "__main__":
    sys.exit(main())
