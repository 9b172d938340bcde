"""Tracing as a real process does it: off, with a collector that hangs, and with variables that can't be used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aidevos.contracts.envelope import TRACEPARENT
from tests.support.collector import Collector
from tests.support.host_processes import client
from tests.support.paths import ROOT
from tests.support.programs import Process, spawn
from tests.support.servers import Servers

PROBES = "tests.support.traced_objects"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = {TRACEPARENT: f"00-{TRACE}-b7ad6b7169203331-01"}


def environment(servers: Servers, database: str, **variables: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        "AIDEVOS_HOME": str(servers.home),
        "AIDEVOS_NATS_URL": servers.nats_url("objects"),
        "AIDEVOS_MONGO_URL": servers.mongo_url,
        "AIDEVOS_MONGO_DATABASE": database,
        "AIDEVOS_EVENT_BUS_URL": "",
        "AIDEVOS_METRICS_PORT": "0",
        **variables,
    }


@contextmanager
def hosting(servers: Servers, database: str, **variables: str) -> Iterator[Process]:
    process = spawn([PROBES], environment(servers, database, **variables))
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


async def test_a_process_without_a_collector_loads_nothing_of_opentelemetry(servers: Servers, database: str) -> None:
    with hosting(servers, database):
        async with client(servers) as (caller, _):
            await caller.object("probe", "a", headers=SAMPLED, deadline=30.0).note(step="x")
            modules = await caller.object("probe", "a", headers=SAMPLED).telemetry_modules()

    assert modules == []


async def test_a_process_with_a_collector_exports_what_is_left_when_it_stops(servers: Servers, database: str) -> None:
    with Collector() as collector, hosting(servers, database, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as host:
        async with client(servers) as (caller, _):
            await caller.object("probe", "a", headers=SAMPLED, deadline=30.0).note(step="x")
            assert await caller.call("probe", "a", "telemetry_modules")
        host.terminate()
        assert host.wait(20) == 0

        assert "turn probe.note" in {span.name for span in collector.trace(TRACE)}


async def test_a_collector_that_hangs_delays_the_end_of_a_process_by_a_second_at_most(
    servers: Servers, database: str
) -> None:
    with Collector() as collector, hosting(servers, database, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as host:
        collector.hang.set()
        async with client(servers) as (caller, _):
            await caller.object("probe", "a", headers=SAMPLED, deadline=30.0).note(step="x")
        began = time.monotonic()
        host.terminate()

        assert host.wait(20) == 0
        assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ],
)
def test_a_variable_that_cannot_be_used_ends_the_process_with_one_line(
    servers: Servers, database: str, variable: str, value: str
) -> None:
    variables = environment(servers, database, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", **{variable: value})

    command = [sys.executable, "-m", PROBES]
    ended = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert variable in ended.stderr
