"""The clients of a campaign, over NATS and over HTTP, and a follower of events.

A client repeats a request under the same ID until it is answered or its time is up, as every careful client does.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import msgspec
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from aidevos import DurableObjectClient, Failure
from aidevos.contracts import envelope, subjects
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import BusError
from aidevos.durable.client.connection import connect
from aidevos.testing import Model, Refusal, Value, check_linearizable
from tests.support.campaign.fleet import COLLECTION, Fleet
from tests.support.http import http_client
from tests.support.workloads import Client, Linearizable

# Seconds until a client gives a request up, and until it repeats one that has failed over HTTP.
DEADLINE, REPEAT_AFTER = 12.0, 0.2
ATTEMPT = 4.0


class NatsClient:
    """A client on a connection to NATS of its own."""

    def __init__(self, caller: DurableObjectClient, tells: JetStreamContext, headers: Mapping[str, str]) -> None:
        self._caller = caller
        self._tells = tells
        self._headers = headers

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        return await self._caller.call(type, id, method, **args)

    async def tell(self, type: str, id: str, method: str, arguments: Mapping[str, Any], message: str) -> None:
        headers = {**self._headers, "Nats-Msg-Id": message}
        try:
            await self._tells.publish(subjects.tell(type, id, method), msgspec.json.encode(arguments), headers=headers)
        except (NatsError, TimeoutError) as error:
            raise Failure("unavailable", f"the tell may not be stored: {error!r}") from None


class HttpClient:
    """A client of one gateway."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        body = {"method": method, "args": args}
        _, answer = await self.send("POST", f"/durable-objects/{type}:{id}/request", {}, body)
        return answer["result"]

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[str, Any]:
        """Send a request, and repeat it while it fails in a way that invites that."""
        end = time.monotonic() + DEADLINE
        headers = {**headers, "Idempotency-Key": secrets.token_hex(12)} if method != "GET" else dict(headers)
        while True:
            failure = Failure("unavailable", "the gateway doesn't answer")
            with contextlib.suppress(httpx2.TransportError):
                answer = await self._http.request(method, path, headers=headers, json=body)
                if answer.is_success:
                    return answer.headers.get("etag", ""), answer.json()
                failure = Failure.decode(answer.content)
            if not failure.is_transient or time.monotonic() > end:
                raise failure
            await asyncio.sleep(REPEAT_AFTER)


class Items(Linearizable):
    """Documents that clients replace over HTTP if they have the ETag that they name."""

    type, query, weight = "item", "read", 2

    async def prepare(self, client: Client) -> None:
        assert client.send is not None
        with contextlib.suppress(Failure):  # a collection that exists
            await client.send("PUT", f"/data/collections/{COLLECTION}", {}, {})
        for id in self.ids:
            await client.send("PUT", self._path(id), {"If-None-Match": "*"}, {"data": {"number": 0}})
        self._latest = dict.fromkeys(self.ids, '"1"')

    async def step(self, client: Client) -> None:
        if client.send is None:
            return
        id = self._random.choice(self.ids)
        if self._random.random() < 0.4:
            outcome = await self._record(client, id, "read", {})
        else:
            arguments = {"tag": self._latest[id], "number": self._next()}
            outcome = await self._record(client, id, "replace", arguments)
        if isinstance(outcome, Value):
            self._latest[id] = outcome.result[0]

    async def find_violations(self, client: Client) -> list[str]:
        for id in self.ids:
            await self._record(client, id, "read", {})
        return [str(each) for each in check_linearizable(self.recorder.operations, self.model)]

    async def _record(self, client: Client, id: str, method: str, arguments: dict[str, Any]) -> Any:
        answer = self._read(client, id) if method == "read" else self._replace(client, id, **arguments)
        return await self.recorder.record(client.name, f"item:{id}", method, arguments, answer)

    async def _read(self, client: Client, id: str) -> list[Any]:
        assert client.send is not None
        tag, item = await client.send("GET", self._path(id), {}, None)
        return [tag, item["data"]["number"]]

    async def _replace(self, client: Client, id: str, tag: str, number: int) -> list[Any]:
        assert client.send is not None
        tag, item = await client.send("PUT", self._path(id), {"If-Match": tag}, {"data": {"number": number}})
        return [tag, item["data"]["number"]]

    def _path(self, id: str) -> str:
        return f"/data/collections/{COLLECTION}/{id}"


def _replace(state: tuple[int, int], method: str, arguments: Mapping[str, Any]) -> tuple[tuple[int, int], Any]:
    version, number = state
    if method == "replace":
        if arguments["tag"] != f'"{version}"':
            return state, Refusal("precondition-failed")
        version, number = version + 1, arguments["number"]
    return (version, number), [f'"{version}"', number]


Items.model = Model((1, 0), _replace, queries=frozenset({"read"}), refusals=frozenset({"precondition-failed"}))


@asynccontextmanager
async def open_clients(fleet: Fleet, over_nats: int, over_http: int) -> AsyncIterator[list[Client]]:
    """Open this many clients of each kind."""
    headers = fleet.headers
    authorization = headers[envelope.AUTHORIZATION]
    clients = []
    async with AsyncExitStack() as stack:
        stored = await connect(fleet.nats.nats_url("events"), "tells")
        stack.push_async_callback(stored.close)
        for number in range(over_nats):
            connection = await connect(fleet.nats.nats_url("gateway"), f"client-{number}")
            stack.push_async_callback(connection.close)
            caller = DurableObjectClient(connection, lambda: authorization, default_deadline=DEADLINE)
            await caller.start()
            client = NatsClient(caller, stored.jetstream(), {envelope.AUTHORIZATION: authorization})
            clients.append(Client(f"nats{number}", client.call, client.tell))
        for number in range(over_http):
            url = fleet.urls[number % len(fleet.urls)]
            http = await stack.enter_async_context(http_client(base_url=url, headers=headers, timeout=ATTEMPT))
            over = HttpClient(http)
            clients.append(Client(f"http{number}", over.call, send=over.send))
        yield clients


@asynccontextmanager
async def follow_events(fleet: Fleet, see: Callable[[str, int], None]) -> AsyncIterator[None]:
    """Pass each event of counters to `see`, in the order of arrival, from now on."""
    connection = await connect(fleet.nats.nats_url("objects"), "follower")
    current = asyncio.Event()
    following = asyncio.create_task(_follow(JetStreamBus(connection), see, current))
    await current.wait()
    try:
        yield
    finally:
        await cancel_and_wait([following])
        await connection.close()


async def _follow(bus: JetStreamBus, see: Callable[[str, int], None], current: asyncio.Event) -> None:
    started, place = time.time(), ""
    while True:
        with contextlib.suppress(BusError):
            async for event in bus.follow(["event.tally.*.added"], since=started, after=place):
                if event is None:
                    current.set()
                else:
                    place = event.position
                    see(event.subject.split(".")[2], msgspec.json.decode(event.payload)["data"]["value"])
        await asyncio.sleep(REPEAT_AFTER)
