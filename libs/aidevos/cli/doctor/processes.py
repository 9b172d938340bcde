"""Checks of the processes, and of the ports that they should answer at."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request

import msgspec

from aidevos.cli.doctor.finding import Finding, error, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.contracts.errors import Problem
from aidevos.process.overview import RUNNING, SILENT, Overview, Row
from aidevos.settings import Settings

WITHIN = 3.0
UP = "run `make up`, or set AIDEVOS_HOME to the home of the fleet"


async def check_processes(patient: Patient) -> list[Finding]:
    """Find processes that don't answer, or aren't well."""
    overview = Overview(patient.home)
    rows = await asyncio.to_thread(overview.read)
    if not rows and patient.nats_url:
        return [ok("processes", "none runs on this machine; the fleet is run elsewhere")]
    if not rows:
        return [error("processes", f"no fleet is up under {patient.home}", UP)]
    found = [error("processes", _describe(row), _advise(row)) for row in rows if row.state != RUNNING]
    found += [
        warning("processes", f"{row.name}: {row.detail}, since {row.since}", "watch whether it passes")
        for row in rows
        if row.state == RUNNING and row.detail
    ]
    if overview.is_orphaned:
        found.append(error("processes", "the supervisor has ended, so nothing restarts a process", "run `make up`"))
    return found or [ok("processes", f"{len(rows)} answer")]


def _describe(row: Row) -> str:
    since, detail = f" since {row.since}" if row.since else "", f": {row.detail}" if row.detail else ""
    return f"{row.name} ({row.pid or 'no process'}) is {row.state}{since}{detail}"


def _advise(row: Row) -> str:
    if row.state == SILENT and row.detail:
        return f"`kill -CONT {row.pid}` lets it go on"
    if row.state == SILENT:
        return "see its log" + (f"; after `kill -KILL {row.pid}` it is started again" if row.supervised else "")
    return "see what it says here, and its log"


async def check_ports(patient: Patient) -> list[Finding]:
    """Find out whether the gateway answers, or who has the ports of a fleet that is down."""
    if patient.fleet is None:
        return await asyncio.to_thread(_find_taken, patient.settings)
    return [await asyncio.to_thread(_ask_gateway, patient.fleet.gateway_url)]


def _ask_gateway(url: str) -> Finding:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=WITHIN):  # noqa: S310
            return ok("ports", f"the gateway at {url} is ready")
    except urllib.error.HTTPError as answer:
        return error("ports", f"the gateway at {url} is {_reason(answer.read())}", "see the services that it names")
    except OSError as failure:
        return error("ports", f"the gateway at {url} doesn't answer: {failure}", "see the log of http_gateway")


def _reason(problem: bytes) -> str:
    try:
        return msgspec.json.decode(problem, type=Problem).detail
    except msgspec.DecodeError:
        return "not ready"


def _find_taken(settings: Settings) -> list[Finding]:
    wanted = {"PORT": settings.port}
    wanted |= {} if settings.nats_url else {"NATS_PORT": settings.nats_port}
    wanted |= {} if settings.mongo_url else {"MONGO_PORT": settings.mongo_port}
    taken = {name: port for name, port in wanted.items() if _is_open(settings.host, port)}
    if not taken:
        return [ok("ports", f"{', '.join(map(str, wanted.values()))} are free")]
    return [
        error("ports", f"another program listens on {port}", f"end it, or set AIDEVOS_{name} to another port")
        for name, port in taken.items()
    ]


def _is_open(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), WITHIN).close()
    except OSError:
        return False
    return True
