"""The services as processes on the tests' servers, with an entry point over HTTP and one over NATS."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

import httpx2
import msgspec
import nats
from nats.aio.client import Client

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import failure_of
from aidevos.security.tokens import TokenIssuer
from tests.support.http import blocking_http_client
from tests.support.programs import Launch, Process, Program
from tests.support.receiver import ADDRESS
from tests.support.servers import Servers, drop_database, free_port

SERVICES = (
    "objects",
    "authentication",
    "user_management",
    "data_storage",
    "projects",
    "api_gateway",
    "events",
    "task_worker",
    "http_gateway",
)
# Those that accounts need: their keys and webhooks end with them.
ACCOUNTS = ("authentication", "user_management", "api_gateway", "events", "http_gateway")
USERS = {"http_gateway": "gateway"}
WEBHOOKS = {
    # The address at which tests receive webhooks, and the pauses between delivery attempts in seconds.
    "AIDEVOS_WEBHOOK_NETWORKS": ADDRESS,
    "AIDEVOS_WEBHOOK_PAUSES": "0.2,0.3,0.5,1,1,1,1,1,1,1",
}
# Seconds within which services become ready on a busy machine.
START_TIMEOUT = 100.0
# All tests come from one address.
UNTHROTTLED = {"AIDEVOS_ADDRESS_LOGINS": "100000", "AIDEVOS_ADDRESS_REGISTRATIONS": "100000"}


class World(NamedTuple):
    servers: Servers
    url: str
    issuer: TokenIssuer
    # Kills a service's process and starts another.
    restart: Callable[[str], None]
    # Sends a signal to a service's process.
    signal: Callable[[str, int], None]
    database: str
    # The PID of a service's process.
    pid: Callable[[str], int]

    def token(self, *permissions: str, subject: str = "tester", roles: tuple[str, ...] = ()) -> str:
        return "Bearer " + self.issuer.issue(subject, roles=roles, permissions=permissions)

    @property
    def admin(self) -> str:
        return self.token(roles=("admin",), subject="admin")


def start(
    servers: Servers, module: str, user: str, database: str, launch: Launch = Program, **settings: str
) -> Process:
    """Start a service's process with the settings that the fleet gives it."""
    environment = {
        **os.environ,
        "AIDEVOS_HOME": str(servers.home),
        "AIDEVOS_NATS_URL": servers.nats_url(user),
        "AIDEVOS_MONGO_URL": servers.mongo_url,
        "AIDEVOS_MONGO_DATABASE": database,
        "AIDEVOS_PUBLIC_URL": servers.public_url,
        **settings,
    }
    return launch(module.split(), environment)


@contextmanager
def running(
    servers: Servers,
    database: str,
    event_bus_url: str = "",
    launch: Launch = Program,
    services: Sequence[str] = SERVICES,
    **accounts: str,
) -> Iterator[World]:
    """Start these services, and yield once they are ready; `accounts` are settings for all but the gateway."""
    port = free_port()
    everywhere = {"AIDEVOS_EVENT_BUS_URL": event_bus_url}

    def begin(service: str) -> Process:
        user, settings = USERS.get(service, service), accounts
        if service == "http_gateway":
            others = ",".join(each for each in services if each != service)
            settings = {"AIDEVOS_PORT": str(port), "AIDEVOS_SERVICES": others}
        return start(servers, f"services.{service}", user, database, launch, **everywhere, **settings)

    accounts = {**UNTHROTTLED, **WEBHOOKS, **accounts}
    processes = {service: begin(service) for service in services}

    def restart(service: str) -> None:
        processes[service].kill()
        processes[service].wait()
        processes[service] = begin(service)

    def signal(service: str, number: int) -> None:
        processes[service].send_signal(number)

    def pid(service: str) -> int:
        return processes[service].pid

    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, list(processes.values()))
        yield World(servers, url, servers.issuer(), restart, signal, database, pid)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(20)


class Worlds:
    """The services on these servers, one set of them at a time."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._shared: World | None = None
        self._alone = False
        self._stack = ExitStack()

    def shared(self) -> World:
        """Return the services that all tests share. Tests must leave them running."""
        if self._shared is None:
            self._shared = self._stack.enter_context(self._fresh())
        return self._shared

    @contextmanager
    def alone(
        self,
        prepare: Callable[[str], None] = lambda database: None,
        services: Sequence[str] = SERVICES,
        **accounts: str,
    ) -> Iterator[World]:
        """Start services with their own settings, which the test may break. `prepare` fills their database first."""
        assert not self._alone, "two sets of services would share objects: give each a module of its own"
        self.end()
        self._alone = True
        try:
            with self._fresh(prepare, services, **accounts) as world:
                yield world
        finally:
            self._alone = False

    def end(self) -> None:
        self._shared = None
        self._stack.close()

    @contextmanager
    def _fresh(
        self,
        prepare: Callable[[str], None] = lambda database: None,
        services: Sequence[str] = SERVICES,
        **accounts: str,
    ) -> Iterator[World]:
        name = f"test_{secrets.token_hex(8)}"
        self._servers.heal()
        # The fixtures that call this may run beside an event loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _forget_types(self._servers)).result()
        prepare(name)
        with running(self._servers, name, services=services, **accounts) as world:
            yield world
        self._servers.heal()
        drop_database(self._servers.mongo_url, name)


async def _forget_types(servers: Servers) -> None:
    """Remove the types that tests have served, which no process serves any more."""
    connection = await nats.connect(servers.nats_url("fleet"))
    await connection.jetstream().purge_stream(f"KV_{subjects.TYPES_BUCKET}")
    await connection.close()


def wait_ready(url: str, processes: list[Process]) -> None:
    end = time.monotonic() + START_TIMEOUT
    with blocking_http_client(base_url=url) as http:
        while time.monotonic() < end:
            assert all(process.poll() is None for process in processes), "a service has ended"
            try:
                if http.get("/health/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError("the services did not become ready")


class EntryPoint(Protocol):
    """One way to call objects. Methods return decoded results and raise `Failure`."""

    async def call(
        self,
        type: str,
        id: str,
        method: str,
        payload: bytes = b"{}",
        *,
        authorization: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> Any: ...


class NatsEntryPoint:
    name = "nats"

    def __init__(self, connection: Client) -> None:
        self.connection = connection

    async def call(
        self,
        type: str,
        id: str,
        method: str,
        payload: bytes = b"{}",
        *,
        authorization: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        sent = dict(headers or {})
        if authorization is not None:
            sent[envelope.AUTHORIZATION] = authorization
        return await self._request(subjects.call(type, id, method), payload, sent)

    async def query(self, type: str, name: str, args: Mapping[str, Any], *, authorization: str) -> Any:
        """Run a query over the committed states of a type."""
        sent = {envelope.AUTHORIZATION: authorization}
        return await self._request(subjects.query(type, name), msgspec.json.encode(args), sent)

    async def _request(self, subject: str, payload: bytes, sent: dict[str, str]) -> Any:
        reply = await self.connection.request(subject, payload, timeout=10, headers=sent)
        failure = failure_of(reply)
        if failure is not None:
            assert (reply.headers or {})[envelope.ERROR_CODE] == str(failure.status)
            assert failure.code in (reply.headers or {})[envelope.ERROR]
            raise failure
        return msgspec.json.decode(reply.data)


class HttpEntryPoint:
    name = "http"

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def call(
        self,
        type: str,
        id: str,
        method: str,
        payload: bytes = b"{}",
        *,
        authorization: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        sent = {"Content-Type": "application/json", **(headers or {})}
        if envelope.REQUEST_ID in sent:
            sent["Idempotency-Key"] = sent.pop(envelope.REQUEST_ID)
        if authorization is not None:
            sent["Authorization"] = authorization
        verb, path, body = self._route(type, id, method, payload)
        response = await self._client.request(verb, path, content=body, headers=sent)
        if response.is_error:
            assert response.headers["content-type"] == "application/problem+json"
            failure = Failure.decode(response.content)
            assert failure.status == response.status_code
            raise failure
        if response.status_code == 204:
            return None
        result = response.json()
        return result["result"] if path.endswith("/request") else result

    def _route(self, type: str, id: str, method: str, payload: bytes) -> tuple[str, str, bytes | None]:
        path = f"/durable-objects/{type}:{id}"
        if method == "_create":
            fields = payload.strip()[1:]
            named = f'{{"type":"{type}","name":"{id}"'.encode()
            return "POST", "/durable-objects", named + (b"" if fields == b"}" else b",") + fields
        if method == "_read":
            return "GET", path, None
        if method == "_replace":
            return "PUT", path, payload
        if method == "_delete":
            return "DELETE", path, None
        if method == "_pending":
            return "GET", f"{path}/pending", None
        if method == "_hibernate":
            return "POST", f"{path}/hibernate", None
        return "POST", f"{path}/request", b'{"method":"' + method.encode() + b'","args":' + payload + b"}"
