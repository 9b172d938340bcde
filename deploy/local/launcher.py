"""Start and stop of the local fleet.

Promise: `down` ends everything that a start has begun, even an interrupted one, and leaves no process
behind. The next start finds all stored data again. Only one launcher at a time works on a home. A command that changes
a running fleet is in `rolling`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from nats.errors import Error as NatsError

from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.factory import prepare_rabbitmq
from aidevos.durable.client.connection import connect_once
from aidevos.durable.hosting.provision import provision
from aidevos.process import vulnerabilities
from aidevos.process.fleet import FLEET_FILE, LOGS
from aidevos.process.vulnerabilities import Version
from aidevos.security.fleet_secrets import Secrets
from aidevos.security.keys import ensure_signing_key
from aidevos.security.secret_files import write_secret
from aidevos.security.tls import client_context
from aidevos.settings import Settings, SettingsError

from ..nats.config import ADMIN_USER
from . import (
    binaries,
    environment,
    mongo_server,
    mongo_setup,
    nats_server,
    packages,
    processes,
    programs,
)
from .control import FleetError, Supervisor
from .credentials import ensure_secrets
from .endpoints import gateway_url
from .ports import check_free, wait_for_port
from .rolling import RunningFleet

START_TIMEOUT = 60.0
# The gateway's socket takes connections before there is a gateway.
READY_WITHIN = 2.0
POLL = 0.05


def up(settings: Settings, of_objects: int = 1) -> str:
    """Start the fleet, wait until it is healthy, and return a sentence with its URL.

    Each service that hosts objects has `of_objects` processes, if `AIDEVOS_REPLICAS` doesn't name it. Raises
    `SettingsError` for a failure that a setting can fix, and `FleetError` for any other. After either, nothing keeps
    running.
    """
    programs.socket_path(settings.home)
    with _lock(settings.home):
        supervisor = Supervisor(settings.home)
        if _is_up(supervisor):
            fleet = RunningFleet(settings.home, supervisor)
            fleet.mend()
            if advice := fleet.advise(environment.of_shell()):
                print(advice, file=sys.stderr)
            return f"The fleet is already up: {_wait_until_ready(supervisor, fleet.settings)}"
        _end_all(settings)
        try:
            warnings = _start(settings, supervisor, programs.count_all(settings.replicas, of_objects))
        except BaseException:
            _end_all(settings)
            raise
        for line in warnings:
            print(line, file=sys.stderr)
        return f"The fleet is up: {gateway_url(settings)}"


def scale(settings: Settings, service: str, count: int) -> str:
    """Give a service of the running fleet this number of processes, and return a sentence for the user.

    Raises `SettingsError` for an unknown service, and `FleetError` if no fleet is up.
    """
    programs.check_service(service, "SERVICE")
    with _lock(settings.home):
        _running(settings).scale(service, count)
    return f"{service} has {count} process{'es' if count > 1 else ''}."


def restart(settings: Settings, service: str = "") -> str:
    """Replace the processes of one service or of all, one by one, by new ones with these settings.

    Returns a sentence for the user. Raises `SettingsError` for an unknown service or a setting that can't change, and
    `FleetError` if no fleet is up or a new process doesn't start; the old ones serve then.
    """
    if service:
        programs.check_service(service, "SERVICE")
    with _lock(settings.home):
        fleet = _running(settings)
        fleet.adopt(environment.of_shell())
        _prepare_servers(fleet.settings, ensure_secrets(settings.home), Supervisor(settings.home))
        fleet.mend()
        fleet.restart([service] if service else fleet.counts)
        _wait_until_ready(Supervisor(settings.home), fleet.settings)
    return f"{service or 'The fleet'} is restarted."


def down(settings: Settings) -> str:
    """End every process of the fleet, after draining it where possible, and return a sentence for the user."""
    if not settings.home.is_dir():
        return f"No fleet is up under {settings.home}."
    with _lock(settings.home):
        ended = _end_all(settings)
    return "The fleet is down." if ended else f"No fleet is up under {settings.home}."


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(home / "launcher.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"AIDEVOS_HOME={str(home)!r} can't be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_up(supervisor: Supervisor) -> bool:
    """Return True if an earlier start got as far as starting services."""
    services = {service.name for service in programs.SERVICES}
    return supervisor.is_alive() and any(
        programs.replica(program.name).service in services for program in supervisor.programs()
    )


def _running(settings: Settings) -> RunningFleet:
    """Return the fleet that is up. Raises `FleetError` if there is none."""
    supervisor = Supervisor(settings.home)
    if not _is_up(supervisor):
        raise FleetError(f"no fleet is up under {settings.home}: run `make up`")
    return RunningFleet(settings.home, supervisor)


def _start(settings: Settings, supervisor: Supervisor, counts: dict[str, int]) -> list[str]:
    """Start everything, wait until it is ready, and return warnings about the servers."""
    home = settings.home
    servers = {}
    if settings.tls_required and not (settings.nats_url and settings.mongo_url):
        raise SettingsError(
            "AIDEVOS_TLS_REQUIRED is set, and the servers that `make up` starts have no TLS: run NATS and MongoDB with "
            "TLS, and set AIDEVOS_NATS_URL and AIDEVOS_MONGO_URL"
        )
    if settings.mongo_url:
        mongo_setup.check_external(settings)
    asyncio.run(prepare_rabbitmq(settings, FLEET_EVENTS))
    if not settings.nats_url:
        servers[programs.NATS] = nats_server.command(binaries.nats_server(), settings)
    if not settings.mongo_url:
        packages.provide([packages.LIBCURL])
        servers[programs.MONGO] = mongo_server.command(binaries.mongod(), settings)
    _check_ports(settings)
    secrets = ensure_secrets(home)
    nats_server.configure(settings, secrets)
    mongo_server.configure(settings, secrets)
    (home / LOGS).mkdir(mode=0o700, exist_ok=True)
    write_secret(home / programs.CONFIG_FILE, programs.render(home, servers).encode())
    environment.save(home, environment.of_shell() | {"AIDEVOS_REPLICAS": programs.name_counts(counts)})
    supervisor.launch(settings)
    warnings = _prepare_servers(settings, secrets, supervisor)
    ensure_signing_key(home)
    RunningFleet(home, supervisor).mend()
    _wait_until_ready(supervisor, settings)
    return warnings


def _check_ports(settings: Settings) -> None:
    with contextlib.ExitStack() as held:
        held.enter_context(check_free(settings.host, settings.port, "AIDEVOS_PORT"))
        if not settings.nats_url:
            held.enter_context(check_free(settings.host, settings.nats_port, "AIDEVOS_NATS_PORT"))
        if not settings.mongo_url:
            held.enter_context(check_free(mongo_server.HOST, settings.mongo_port, "AIDEVOS_MONGO_PORT"))


def _prepare_servers(settings: Settings, secrets: Secrets, supervisor: Supervisor) -> list[str]:
    """Make the servers ready for the fleet and return warnings about them."""
    try:
        if not settings.nats_url:
            wait_for_port(settings.host, settings.nats_port, supervisor.check, START_TIMEOUT)
        nats_version = asyncio.run(_prepare_nats(settings, secrets))
        if settings.mongo_url:
            mongo_version = mongo_setup.check_external(settings)
        else:
            wait_for_port(mongo_server.HOST, settings.mongo_port, supervisor.check, START_TIMEOUT)
            mongo_version = mongo_setup.prepare(settings, secrets, programs.shipped_types())
    except TimeoutError as error:
        raise FleetError(str(error)) from None
    versions = {"NATS": nats_version, "MongoDB": mongo_version}
    return vulnerabilities.warnings(versions, "put a newer one on the PATH, or run one and set AIDEVOS_{}_URL")


async def _prepare_nats(settings: Settings, secrets: Secrets) -> Version:
    """Make the streams and buckets and return the server's version."""
    url = nats_server.url(settings, secrets, ADMIN_USER)
    try:
        connection = await connect_once(url, client_context(settings))
    except (NatsError, OSError) as error:
        raise SettingsError(f"can't connect to the NATS server at AIDEVOS_NATS_URL: {error}") from None
    try:
        await provision(connection, settings)
        return vulnerabilities.nats_version(connection)
    finally:
        await connection.close()


def _wait_until_ready(supervisor: Supervisor, settings: Settings) -> str:
    """Return the gateway's URL once it is ready."""
    url = gateway_url(settings)
    end = time.monotonic() + START_TIMEOUT
    while reason := _find_unreadiness(url):
        supervisor.check()
        if time.monotonic() > end:
            raise FleetError(f"the gateway at {url} isn't ready: {reason}")
        time.sleep(POLL)
    return url


def _find_unreadiness(url: str) -> str:
    """Return the reason why the gateway isn't ready, or an empty string if it is."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=READY_WITHIN):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        return error.read(500).decode(errors="replace").replace("\n", " ")
    except OSError as error:
        return str(error)


def _end_all(settings: Settings) -> bool:
    """End the supervisor, which ends its programs, then any survivors, the gateway first.

    Returns True if anything was running.
    """
    home = settings.home
    total = programs.grace(settings) * len(programs.SERVICES) + 2 * programs.SERVER_GRACE
    try:
        ended = processes.end(home, "", total)
        left = {process.group for process in processes.find(home)}
        for group in sorted(left, key=programs.start_order, reverse=True):
            grace = programs.SERVER_GRACE if group in (programs.NATS, programs.MONGO) else programs.grace(settings)
            ended |= processes.end(home, group, grace)
    except TimeoutError as error:
        raise FleetError(str(error)) from None
    for name in (FLEET_FILE, environment.FILE, processes.MARK_FILE, programs.SOCKET_FILE):
        (home / name).unlink(missing_ok=True)
    return ended
