"""Compares requests over HTTP: the product, what one would write without it, and other products.

Each round takes every workload once: an echo through the bare chain Starlette → NATS, then each contestant, in reverse
order every other round. CPU time per request is steadier than rates on a machine that others use, and its ratio to the
echo beside it is steadier still. At half of its median rate, each contestant is then measured with an open loop; a
single round does so only for the product and the echo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import httpx2
import msgspec
import psutil

from tests.bench import data
from tests.bench.cases import OBJECTS, Stage, http_order, post
from tests.bench.load import Load, Order, Sample
from tests.bench.peers import PEERS

IN_FLIGHT = 64
ITEMS = 1000
PAGE = 20
ECHO = "bare chain"
OWN = "AIDevOS"
LOAD = "load"
# The contestants that answer queries only of counters that exist.
CREATE_FIRST = (OWN, "plain")
COUNTED = (200, 201)
Cpu = Callable[[], Mapping[str, float]]


class Result(msgspec.Struct):
    """Samples of a contestant at a workload, one per round, with the CPU time of each in µs per request by process.

    `beside` has the echo's CPU time in the same rounds. `steady` is the sample of the open loop at half of the rate.
    """

    workload: str
    contestant: str
    samples: list[Sample] = []
    cpu: list[dict[str, float]] = []
    beside: list[float] = []
    steady: Sample | None = None

    @property
    def rate(self) -> float:
        return median(sample.rate for sample in self.samples)

    @property
    def spread(self) -> float:
        """The distance of the fastest from the slowest round, as a share of the median rate."""
        rates = [sample.rate for sample in self.samples]
        return (max(rates) - min(rates)) / self.rate if self.rate else 0.0

    @property
    def cost(self) -> float:
        """The CPU time of all processes but the load, in µs per request."""
        return median(sum(spent.values()) for spent in self.cpu)

    @property
    def chains(self) -> float:
        """The cost as a multiple of the echo's in the same round."""
        return median(sum(spent.values()) / echo for spent, echo in zip(self.cpu, self.beside, strict=True))

    def cost_of(self, process: str) -> float:
        return median(spent.get(process, 0.0) for spent in self.cpu)


class Entry(NamedTuple):
    """A contestant at a workload. The echo is one that belongs to each workload."""

    workload: str
    contestant: str
    order: Order


def measure(
    stage: Stage, outbox: str, seconds: float, rounds: int, load: Load, say: Callable[[str], None]
) -> list[Result]:
    with ExitStack() as stack:
        urls = {peer.name: stack.enter_context(peer.run()) for peer in PEERS if peer.is_installed}
        entries = list(_entries(stage, outbox, urls, seconds))
        _prepare(stage, urls)
        for entry in entries:
            say(f"warm up: {entry.workload}, {entry.contestant}")
            _warm_up(entry, load)
        echo = http_order(stage.http_echo, [post("/echo", b'{"by":1}')], IN_FLIGHT, seconds)
        echoes = Result("echo", ECHO, [], [], [])
        measured = [(entry, Result(entry.workload, entry.contestant, [], [], [])) for entry in entries]
        for turn in range(rounds):
            for workload in dict.fromkeys(entry.workload for entry in entries):
                beside = _take(echoes, echo, load)
                group = [pair for pair in measured if pair[0].workload == workload]
                for entry, result in group[:: 1 if turn % 2 == 0 else -1]:
                    say(f"round {turn + 1} of {rounds}: {workload}, {entry.contestant}")
                    _take(result, entry.order, load)
                    result.beside.append(beside)
        for entry, result in [(Entry("echo", ECHO, echo), echoes), *measured]:
            if rounds == 1 and entry.contestant not in (ECHO, OWN):
                continue  # a quick run
            say(f"half the rate: {entry.workload}, {entry.contestant}")
            result.steady = load.run(msgspec.structs.replace(entry.order, rate=result.rate / 2))
        echoes.beside = [sum(spent.values()) for spent in echoes.cpu]
        return [echoes, *(result for _, result in measured)]


def _warm_up(entry: Entry, load: Load) -> None:
    """Send some requests, or all where commands create the counters that queries read."""
    seconds, least = 0.5, len(entry.order.requests) if entry.contestant in CREATE_FIRST else 1
    while load.run(msgspec.structs.replace(entry.order, seconds=seconds)).count < least:
        seconds *= 2


def _take(result: Result, order: Order, load: Load) -> float:
    """Add a sample to the result, and return its cost in µs of CPU per request."""
    before = cpu_seconds()
    sample = load.run(order)
    spent = {name: 1e6 * (now - before.get(name, 0.0)) / sample.count for name, now in cpu_seconds().items()}
    spent = {name: micros for name, micros in spent.items() if micros >= 0.5 and name != LOAD}
    result.samples.append(sample)
    result.cpu.append(spent)
    return sum(spent.values())


def cpu_seconds() -> dict[str, float]:
    """Return the CPU seconds of the processes that this one has started, by name."""
    found: dict[str, float] = {}
    for child in psutil.Process().children():
        spent = child.cpu_times()
        name = process_name(child.cmdline())
        found[name] = found.get(name, 0.0) + spent.user + spent.system
    return found


def process_name(words: Sequence[str]) -> str:
    """Return the short name of a process by its command line."""
    line = list(words)
    if "-m" in line:
        line = line[line.index("-m") + 1 :]
        return " ".join(line[:2]).removeprefix("services.").removeprefix("tests.bench.").removeprefix("floors ")
    names = [word.rpartition("/")[2] for word in line[:2]]
    return names[-1] if names and names[0].startswith("python") else "".join(names[:1])


def _prepare(stage: Stage, urls: Mapping[str, str]) -> None:
    """Store the same items everywhere."""
    head = {"Authorization": stage.authorization}
    with httpx2.Client(base_url=stage.world.url, headers=head, timeout=60) as client:
        client.put("/data/collections/bench", json={"indexes": [["price"]]}).raise_for_status()
        lines = b"".join(
            msgspec.json.encode({"id": _id(number), "data": data.document(number)}) + b"\n" for number in range(ITEMS)
        )
        headers = {"Content-Type": "application/x-ndjson"}
        client.post("/data/collections/bench/import", content=lines, headers=headers).raise_for_status()
    plain = ({"_id": _id(number), **data.document(number)} for number in range(ITEMS))
    stage.world.servers.insert(stage.world.database, data.PLAIN, plain)
    if pocketbase := urls.get("PocketBase"):
        with httpx2.Client(base_url=pocketbase, timeout=60) as client:
            for number in range(ITEMS):
                item = {"id": _id(number), **data.document(number)}
                client.post("/api/collections/items/records", json=item).raise_for_status()


def _id(number: int) -> str:
    return f"item{number:011}"


def _entries(stage: Stage, outbox: str, urls: Mapping[str, str], seconds: float) -> Iterator[Entry]:
    """Yield the contestants of each workload, the product first."""
    for workload, contestant, url, requests in _requests(stage, outbox, urls):
        order = http_order(url, requests, IN_FLIGHT, seconds)
        yield Entry(workload, contestant, msgspec.structs.replace(order, counts=COUNTED))


def _requests(stage: Stage, outbox: str, urls: Mapping[str, str]) -> Iterator[tuple[str, str, str, list[bytes]]]:
    own, head = stage.world.url, f"Authorization: {stage.authorization}\r\n"
    many = [f"bench-{number}" for number in range(OBJECTS)]
    for workload, ids in (("command, one counter", ["hot"]), ("command, 1,000 counters", many)):
        body = b'{"method":"increment","args":{"by":1}}'
        yield workload, OWN, own, [post(f"/durable-objects/counter:{id}/request", body, head) for id in ids]
        plain = [post(f"/counters/{id}", b'{"by":1}') for id in ids]
        yield workload, "plain", stage.plain, plain
        yield workload, "plain with outbox", outbox, plain
        if "workerd" in urls:
            yield workload, "workerd", urls["workerd"], [post(f"/{id}", b'{"by":1}') for id in ids]
        if "Restate" in urls:
            yield workload, "Restate", urls["Restate"], [post(f"/Counter/{id}/increment", b'{"by":1}') for id in ids]
    workload = "query, 1,000 counters"
    ask = b'{"method":"value"}'
    yield workload, OWN, own, [post(f"/durable-objects/counter:{id}/request", ask, head) for id in many]
    yield workload, "plain", stage.plain, [_get(f"/counters/{id}") for id in many]
    if "workerd" in urls:
        yield workload, "workerd", urls["workerd"], [_get(f"/{id}") for id in many]
    if "Restate" in urls:
        yield workload, "Restate", urls["Restate"], [_get(f"/Counter/{id}/value") for id in many]
    yield from _item_requests(stage, outbox, urls, head)


def _item_requests(
    stage: Stage, outbox: str, urls: Mapping[str, str], head: str
) -> Iterator[tuple[str, str, str, list[bytes]]]:
    own, plain, pocketbase = stage.world.url, stage.plain, urls.get("PocketBase")
    path, records = "/data/collections/bench", "/api/collections/items/records"
    ids, prices = [_id(number) for number in range(100)], range(0, ITEMS // 2, 5)
    content = msgspec.json.encode(data.document(7))
    body = msgspec.json.encode({"data": data.document(7)})
    yield "item get", OWN, own, [_get(f"{path}/{id}", head) for id in ids]
    yield "item get", "plain", plain, [_get(f"/items/{id}") for id in ids]
    if pocketbase:
        yield "item get", "PocketBase", pocketbase, [_get(f"{records}/{id}") for id in ids]
    yield "item create", OWN, own, [post(path, body, head)]
    yield "item create", "plain", plain, [post("/items", content)]
    yield "item create", "plain with outbox", outbox, [post("/items", content)]
    if pocketbase:
        yield "item create", "PocketBase", pocketbase, [post(records, content)]
    yield "item replace", OWN, own, [_as("PUT", post(f"{path}/{id}", body, head)) for id in ids]
    yield "item replace", "plain", plain, [_as("PUT", post(f"/items/{id}", content)) for id in ids]
    yield "item replace", "plain with outbox", outbox, [_as("PUT", post(f"/items/{id}", content)) for id in ids]
    if pocketbase:
        yield "item replace", "PocketBase", pocketbase, [_as("PATCH", post(f"{records}/{id}", content)) for id in ids]
    query = "filter=%7B%22price%22%3A%7B%22gte%22%3A{}%7D%7D&sort=price&limit=" + str(PAGE)
    yield "page of 20 items", OWN, own, [_get(f"{path}?{query.format(price)}", head) for price in prices]
    yield "page of 20 items", "plain", plain, [_get(f"/items?from={price}&limit={PAGE}") for price in prices]
    if pocketbase:
        query = "filter=(price%3E%3D{})&sort=price&skipTotal=1&perPage=" + str(PAGE)
        yield "page of 20 items", "PocketBase", pocketbase, [_get(f"{records}?{query.format(at)}") for at in prices]


def _get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode()


def _as(verb: str, request: bytes) -> bytes:
    return verb.encode() + request[len(b"POST") :]
