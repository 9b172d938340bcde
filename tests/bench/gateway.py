"""Measures the gateway's overhead with tokens and with API keys, and the accuracy of rate limits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import httpx2
import msgspec

from tests.bench.cases import Stage, http_order, post
from tests.bench.comparison import Comparison
from tests.bench.load import Order
from tests.bench.processes import start
from tests.support.servers import free_port
from tests.support.world import wait_ready

IN_FLIGHT = 64
PASSWORD = "wheelbarrow at noon"
PROCESSES = 4
RATE = 400
COUNTER = "/durable-objects/counter:hot/request"
STOPPED = "data_storage"
Stop = Callable[[], AbstractContextManager[None]]


class Keys(NamedTuple):
    """Two API keys of an administrator: one without limits of its own, one with `RATE` requests per second."""

    free: str
    limited: str


def prepare(stage: Stage) -> Keys:
    """Create the object to call, an administrator, and the administrator's keys."""
    with httpx2.Client(base_url=stage.world.url, timeout=30) as client:

        def ask(verb: str, path: str, body: Any, **headers: str) -> Any:
            return client.request(verb, path, json=body, headers=headers).raise_for_status().json()

        ask("POST", COUNTER, {"method": "increment"}, Authorization=stage.authorization)
        person = {"username": "keeper", "email": "keeper@example.org", "password": PASSWORD}
        user = ask("POST", "/auth/register", person)
        merge = {"Authorization": stage.authorization, "Content-Type": "application/merge-patch+json"}
        ask("PATCH", f"/users/{user['id']}", {"roles": ["admin"]}, **merge)
        pair = ask("POST", "/auth/login", {"username": "keeper", "password": PASSWORD})
        own = {"Authorization": f"Bearer {pair['access_token']}"}
        free = ask("POST", "/api-keys", {"name": "free", "scopes": ["*"]}, **own)
        limited = ask("POST", "/api-keys", {"name": "limited", "scopes": ["*"], "limits": {"rate": RATE}}, **own)
        return Keys(free["key"], limited["key"])


@contextmanager
def gateways(stage: Stage) -> Iterator[str]:
    """Run several gateway processes behind one port."""
    port = free_port()
    process = start(
        stage.world.servers,
        "services.http_gateway",
        "gateway",
        stage.world.database,
        AIDEVOS_PORT=str(port),
        AIDEVOS_WORKERS=str(PROCESSES),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, [process])
        yield url
    finally:
        process.terminate()
        process.wait(20)


def comparisons(stage: Stage, seconds: float, keys: Keys, several: str) -> list[Comparison]:
    echo = http_order(stage.http_echo, [post("/echo", b'{"by":1}')], IN_FLIGHT, seconds)
    by_token = _query(stage.world.url, f"Authorization: {stage.authorization}", seconds)
    by_key = _query(stage.world.url, f"X-Api-Key: {keys.free}", seconds)
    limited = msgspec.structs.replace(_query(several, f"X-Api-Key: {keys.limited}", seconds), counts=(200,))
    allowed = Order(kind="constant", in_flight=1, seconds=seconds, rate=RATE)
    one = msgspec.structs.replace(by_token, in_flight=8)
    lost = http_order(stage.world.url, [_lost(stage)], IN_FLIGHT, seconds)
    return [
        Comparison("gateway, query by token", by_token, "bare gateway", echo, at_least=0.7),
        Comparison("gateway, query by API key", by_key, "by token", by_token, at_least=0.9),
        Comparison(f"{PROCESSES} gateways, one limit", limited, "the limit", allowed, at_least=0.95, at_most=1.05),
        Comparison(
            "query while a service hangs",
            one,
            "without",
            one,
            during=msgspec.structs.replace(lost, counts=(200, 503)),
            of="p99",
            around=_hung(stage),
        ),
    ]


def _query(url: str, credential: str, seconds: float) -> Order:
    request = post(COUNTER, b'{"method":"value"}', f"{credential}\r\n")
    return http_order(url, [request], IN_FLIGHT, seconds)


def _lost(stage: Stage) -> bytes:
    head = f"GET /data/collections HTTP/1.1\r\nHost: bench\r\nAuthorization: {stage.authorization}\r\n"
    return f"{head}Deadline: 500\r\n\r\n".encode()


def _hung(stage: Stage) -> Stop:
    @contextmanager
    def hung() -> Iterator[None]:
        stage.world.signal(STOPPED, signal.SIGSTOP)
        try:
            yield
        finally:
            stage.world.signal(STOPPED, signal.SIGCONT)

    return hung
