"""Checks of the versions of Python, NATS, MongoDB and RabbitMQ."""

from __future__ import annotations

import asyncio
import platform
import re
import socket
import ssl
import sys
from importlib.metadata import version
from urllib.parse import urlsplit

from aidevos.cli.doctor.finding import Finding, Unreachable, error, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.process.vulnerabilities import Version, known

WITHIN = 3.0
OLDEST: dict[str, tuple[int, int]] = {"NATS": (2, 12), "MongoDB": (6, 0), "RabbitMQ": (3, 10)}
# A Python that gets no security fixes any more (https://devguide.python.org/versions/).
UNSUPPORTED_PYTHON = (3, 9)


async def check_versions(patient: Patient) -> list[Finding]:
    """Find servers that are too old, or have known vulnerabilities."""
    found = [_judge_python(), ok("versions", f"aidevos {version('aidevos')}")]
    asked = {"NATS": _nats_version(patient), "MongoDB": _mongo_version(patient)}
    if patient.event_bus_url:
        asked["RabbitMQ"] = asyncio.to_thread(_rabbitmq_version, patient.event_bus_url)
    answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    for server, answer in zip(asked, answers, strict=True):
        if isinstance(answer, Unreachable):
            found.append(error("versions", str(answer), f"start {server}, or see its log"))
        elif isinstance(answer, BaseException):
            found.append(error("versions", f"{server} can't be asked: {answer}", f"see the log of {server}"))
        else:
            found.append(judge(server, answer))
    return found


def judge(server: str, found: Version) -> Finding:
    """Return what is to be said of a server's version."""
    shown = f"{server} {'.'.join(map(str, found))}"
    if found[:2] < OLDEST[server]:
        return error("versions", f"{shown} is too old", f"use {'.'.join(map(str, OLDEST[server]))} or newer")
    if vulnerable := (known(server, found) if server != "RabbitMQ" else []):
        return warning("versions", f"{shown} has known vulnerabilities ({', '.join(vulnerable)})", f"update {server}")
    return ok("versions", shown)


def _judge_python() -> Finding:
    if sys.version_info[:2] <= UNSUPPORTED_PYTHON:
        return error("versions", f"Python {platform.python_version()}", "use a Python that gets security fixes")
    return ok("versions", f"Python {platform.python_version()}")


async def _nats_version(patient: Patient) -> Version:
    found = (await patient.nats()).connected_server_version
    return found.major, found.minor, found.patch


async def _mongo_version(patient: Patient) -> Version:
    major, minor, patch = (await patient.ask_mongo(lambda data: data.client.server_info()))["versionArray"][:3]
    return major, minor, patch


def _rabbitmq_version(url: str) -> Version:
    """Return the version in the server's greeting (AMQP 0-9-1, `connection.start`)."""
    parts = urlsplit(url)
    tls = parts.scheme == "amqps"
    try:
        connection = socket.create_connection((parts.hostname or "", parts.port or (5671 if tls else 5672)), WITHIN)
        with connection, _encrypted(connection, tls) as stream:
            stream.sendall(b"AMQP\x00\x00\x09\x01")
            greeting = stream.recv(16 * 1024)
    except OSError as failure:
        raise Unreachable(f"RabbitMQ can't be reached: {failure}") from None
    if not (found := re.search(rb"\x07versionS....(\d+)\.(\d+)\.(\d+)", greeting, re.DOTALL)):
        raise Unreachable("RabbitMQ doesn't say its version")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def _encrypted(connection: socket.socket, tls: bool) -> socket.socket:
    if not tls:
        return connection
    context = ssl.create_default_context()
    # Only the version is read, and `certificates` checks the certificate.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connection)
