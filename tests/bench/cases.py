"""The measurements of the product through both entry points, each with two floors that do the same work."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from tests.bench.load import Order
from tests.support.world import World

EntryPoint = Literal["nats", "http"]
Operation = Literal["query", "command"]
OBJECTS = 1000
IN_FLIGHT: dict[EntryPoint, int] = {"nats": 256, "http": 64}


class Case(NamedTuple):
    """One row of the table; `alone` means one request in flight."""

    door: EntryPoint
    operation: Operation
    objects: int
    alone: bool

    @property
    def in_flight(self) -> int:
        return 1 if self.alone else IN_FLIGHT[self.door]

    @property
    def echo(self) -> str:
        return f"{self.door} echo{', alone' if self.alone else ''}"

    @property
    def plain(self) -> str:
        return f"plain {self.operation} on {self.objects}{', alone' if self.alone else ''}"

    @property
    def product(self) -> str:
        return f"{self.door} {self.operation} on {self.objects}{', alone' if self.alone else ''}"

    @property
    def target(self) -> float | None:
        """The required ratio to the plain floor."""
        return TARGETS.get(self)


CASES = [
    Case(door, operation, objects, alone)
    for alone in (False, True)
    for operation in ("query", "command")
    for objects in ((1,) if alone else (1, OBJECTS))
    for door in ("nats", "http")
]
TARGETS = {
    Case("http", "query", 1, False): 3.0,
    Case("http", "query", OBJECTS, False): 3.0,
    Case("http", "command", OBJECTS, False): 2.0,
    Case("nats", "command", 1, False): 8.0,
}


class Stage(NamedTuple):
    """The running services and floors, and their addresses."""

    world: World
    authorization: str
    http_echo: str
    plain: str


def orders(stage: Stage, seconds: float) -> dict[str, Order]:
    """Return the measurements by name, ordered so that compared ones run side by side."""
    found: dict[str, Order] = {}
    for case in CASES:
        found.setdefault(case.echo, _echo(stage, case, seconds))
        found.setdefault(case.plain, _plain(stage, case, seconds))
        found[case.product] = _product(stage, case, seconds)
    return found


def _echo(stage: Stage, case: Case, seconds: float) -> Order:
    if case.door == "nats":
        url = stage.world.servers.nats_url("fleet")
        return Order(kind="nats-echo", in_flight=case.in_flight, seconds=seconds, url=url)
    return http_order(stage.http_echo, [post("/echo", b'{"by":1}')], case.in_flight, seconds)


def _plain(stage: Stage, case: Case, seconds: float) -> Order:
    paths = [f"/counters/{id}" for id in _ids(case)]
    if case.operation == "query":
        requests = [f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode() for path in paths]
    else:
        requests = [post(path, b'{"by":1}') for path in paths]
    return http_order(stage.plain, requests, case._replace(door="http").in_flight, seconds)


def _product(stage: Stage, case: Case, seconds: float) -> Order:
    if case.door == "nats":
        return Order(
            kind="nats",
            in_flight=case.in_flight,
            seconds=seconds,
            url=stage.world.servers.nats_url("client"),
            authorization=stage.authorization,
            method="value" if case.operation == "query" else "increment",
            ids=_ids(case),
        )
    body = {"method": "value"} if case.operation == "query" else {"method": "increment", "args": {"by": 1}}
    headers = f"Authorization: {stage.authorization}\r\n"
    requests = [post(f"/durable-objects/counter:{id}/request", msgspec.json.encode(body), headers) for id in _ids(case)]
    return http_order(stage.world.url, requests, case.in_flight, seconds)


def http_order(url: str, requests: list[bytes], in_flight: int, seconds: float) -> Order:
    place = urlsplit(url)
    address = (place.hostname or "", place.port or 0)
    return Order(kind="http", in_flight=in_flight, seconds=seconds, address=address, requests=requests)


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """Encode a POST request for the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _ids(case: Case) -> list[str]:
    return ["hot"] if case.objects == 1 else [f"bench-{number}" for number in range(case.objects)]
