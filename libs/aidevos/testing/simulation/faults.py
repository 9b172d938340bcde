"""The faults that a simulated fleet must survive, each at a chosen moment.

A fault of a process strikes some callbacks after its moment, so it can hit any await. It may wait for a delicate step,
such as a commit. Everything heals by itself after some time: a cut network is restored, a killed host starts again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import msgspec

from aidevos.contracts import subjects
from aidevos.testing.simulation.fleet import LEASE, Fleet, HostNode, Node

BUCKETS = (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET)
# What a process does when a fault strikes: calls of the store, their answers, and messages by their subject.
CLAIM = f"$KV.{subjects.PLACEMENT_BUCKET}."
RELEASE = f"empty.{CLAIM}"
MOMENTS = (
    "store.commit",
    "answer.commit",
    "store.clear_outboxes",
    "answer.clear_outboxes",
    "store.claim",
    "answer.claim",
    "event.",
    "do.",
    "_INBOX",
    "$JS.ACK.",
    f"$KV.{subjects.HOSTS_BUCKET}.",
    CLAIM,
    RELEASE,
)
# Clients hurry this many seconds before a paused process goes on.
BEFORE_END = 0.002


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of some kind at a moment, in virtual seconds.

    `node` is the number of a host, or of a client after those. It strikes after the process has reached a `moment`, if
    it names one, and then after so many `callbacks` of the process. It lasts for `seconds`. `share` is a probability,
    or decides between two endings.
    """

    at: float
    kind: str
    node: int = 0
    moment: str = ""
    seconds: float = 0.0
    callbacks: int = 0
    share: float = 0.0


class Faults:
    """Strikes a fleet with faults, and heals it. `on_change` is called when one begins or ends."""

    def __init__(self, fleet: Fleet, hosts: list[HostNode], clients: list[Node], on_change: Callable[[], None]) -> None:
        self._fleet = fleet
        self._on_change = on_change
        self._hosts = hosts
        self._nodes: list[Node] = [*hosts, *clients]
        self._world = fleet.loop.world
        self._healed = False
        self.struck: list[Fault] = []

    def schedule(self, faults: list[Fault]) -> None:
        for fault in faults:
            self._world.call(self._strike, fault, delay=fault.at)

    def heal(self) -> None:
        """End all faults, and let none begin."""
        self._healed = True
        fleet = self._fleet
        fleet.disk.errors = fleet.nats.loss = 0.0
        fleet.nats.down = False
        fleet.latency.slow = fleet.disk.latency.slow = 0.0
        for node in self._nodes:
            node.clock.offset = 0.0
            self._reconnect(node, breaks=False)
            node.store_reachable = True
            if node.process is not None:
                node.process.resume()
        for host in self._hosts:
            if host.leaving or not host.running:
                self._return(host)

    def _strike(self, fault: Fault) -> None:
        if not self._healed:
            self.struck.append(fault)
            getattr(self, f"_{fault.kind}")(fault, self._nodes[fault.node % len(self._nodes)])
            self._on_change()

    def _later(self, fault: Fault, end: Callable[[], object]) -> None:
        def call() -> None:
            if not self._healed:
                end()
                self._on_change()

        self._world.call(call, delay=fault.seconds)

    def _at_await(self, fault: Fault, node: Node, strike: Callable[[], object]) -> None:
        """Strike after some callbacks of the node's process."""
        process, left = node.process, fault.callbacks

        def begin() -> None:
            assert process is not None  # noqa: S101
            process.after_callback = count

        def count() -> bool:
            nonlocal left
            left -= 1
            if left <= 0 and not self._healed:
                strike()
                self._on_change()
            return left > 0

        if process is None or not process.alive:
            return
        if fault.moment:
            process.trap = fault.moment, begin
        else:
            begin()

    def _pause(self, fault: Fault, node: Node) -> None:
        process = node.process

        def pause() -> None:
            assert process is not None  # noqa: S101
            process.pause(fault.seconds)
            self._world.call(self._on_change, delay=max(fault.seconds - BEFORE_END, 0.0))

        self._at_await(fault, node, pause)

    def _oversleep(self, fault: Fault, node: Node) -> None:
        """Pause a host for longer than its lease, so that others take over."""
        self._pause(_longer(fault), self._host(fault))

    def _outlast(self, fault: Fault, node: Node) -> None:
        """Cut a host off from NATS for longer than its lease."""
        self._cut(_longer(fault), self._host(fault))

    def _straggle(self, fault: Fault, node: Node) -> None:
        """Cut a host off from NATS when it commits, until after others have taken over and the commit has arrived."""
        host = self._host(fault)

        def cut() -> None:
            if host.store is not None and not self._healed:
                host.store.delay = LEASE + fault.share
                self._cut(msgspec.structs.replace(fault, seconds=LEASE + 1.0 + fault.seconds), host)

        if host.process is not None:
            host.process.trap = "store.commit", cut

    def _unsettle(self, fault: Fault, node: Node) -> None:
        """Let a host leave and return, and pause each host when it has released a partition."""
        for host in self._hosts:
            self._pause(fault, host)
        self._leave(fault, node)

    def _kill(self, fault: Fault, node: Node) -> None:
        host = self._host(fault)
        process = host.process

        def kill() -> None:
            if host.process is process and host.running:
                host.kill(server_notices_after=fault.seconds * 2 if fault.share < 0.3 else 0.0)
                self._later(fault, start)

        def start() -> None:
            if not host.running:
                host.start()

        self._at_await(fault, host, kill)

    def _freeze(self, fault: Fault, node: Node) -> None:
        """Pause a host for up to a tenth of a second, and kill it soon after it has gone on with what waited."""
        host = self._host(fault)
        if host.process is not None:
            seconds = fault.share / 10
            host.process.pause(seconds)
            self._world.call(self._kill, fault, node, delay=seconds)

    def _leave(self, fault: Fault, node: Node) -> None:
        host = self._host(fault)
        host.stop()
        self._later(fault, lambda: self._return(host))

    def _return(self, host: HostNode) -> None:
        """Start a host again once it has left."""
        if not host.running:
            host.start()
        elif host.leaving:
            self._world.call(self._return, host, delay=1.0)

    def _cut(self, fault: Fault, node: Node) -> None:
        """Cut a node off from NATS."""
        node.nats_reachable = False
        for connection in node.connections:
            connection.cut()
        self._later(fault, partial(self._reconnect, node, breaks=fault.share < 0.5))

    def _reconnect(self, node: Node, *, breaks: bool) -> None:
        if node.nats_reachable:
            return
        node.nats_reachable = True
        for connection in node.connections:
            if breaks:
                connection.reset(server_notices_after=self._fleet.rng.random())
            else:
                connection.restore()

    def _reset(self, fault: Fault, node: Node) -> None:
        """Break one connection of a node."""
        if node.connections:
            connection = node.connections[fault.callbacks % len(node.connections)]
            connection.reset(server_notices_after=fault.share * 0.1)

    def _cut_store(self, fault: Fault, node: Node) -> None:
        node.store_reachable = False
        self._later(fault, lambda: setattr(node, "store_reachable", True))

    def _store_errors(self, fault: Fault, node: Node) -> None:
        disk = self._fleet.disk
        disk.errors = fault.share
        self._later(fault, lambda: setattr(disk, "errors", 0.0))

    def _slow_store(self, fault: Fault, node: Node) -> None:
        latency = self._fleet.disk.latency
        latency.slow, latency.longest = fault.share, 1.5
        self._later(fault, lambda: setattr(latency, "slow", 0.02))

    def _slow_network(self, fault: Fault, node: Node) -> None:
        latency = self._fleet.latency
        latency.slow, latency.longest = fault.share * 0.2, 0.7
        self._later(fault, lambda: setattr(latency, "slow", 0.02))

    def _lose_messages(self, fault: Fault, node: Node) -> None:
        nats = self._fleet.nats
        nats.loss = fault.share * 0.3
        self._later(fault, lambda: setattr(nats, "loss", 0.0))

    def _restart_nats(self, fault: Fault, node: Node) -> None:
        nats = self._fleet.nats
        nats.down = True
        nats.restart()
        self._later(fault, lambda: setattr(nats, "down", False))

    def _roll_back(self, fault: Fault, node: Node) -> None:
        """Cut the power of the NATS server, which loses the last entries of a bucket."""
        self._restart_nats(fault, node)
        for bucket in BUCKETS[: 1 + (fault.share < 0.5)]:
            stream = self._fleet.nats.jetstream.streams[f"KV_{bucket}"]
            stream.roll_back(max(0, stream.last_sequence - 1 - fault.callbacks % 20))

    def _jump(self, fault: Fault, node: Node) -> None:
        """Let the wall clock of a node jump."""
        node.clock.offset += (fault.share - 0.5) * 20.0

    def _host(self, fault: Fault) -> HostNode:
        return self._hosts[fault.node % len(self._hosts)]


def _longer(fault: Fault) -> Fault:
    return msgspec.structs.replace(fault, seconds=LEASE + fault.seconds)


# How often a kind strikes, and for how long at most.
KINDS = {
    "pause": (6, 8.0),
    "oversleep": (4, 3.0),
    "outlast": (2, 3.0),
    "straggle": (2, 3.0),
    "kill": (4, 6.0),
    "freeze": (2, 6.0),
    "leave": (4, 6.0),
    "unsettle": (4, 6.0),
    "cut": (4, 8.0),
    "reset": (3, 0.0),
    "cut_store": (2, 6.0),
    "store_errors": (3, 5.0),
    "slow_store": (2, 5.0),
    "slow_network": (2, 5.0),
    "lose_messages": (2, 4.0),
    "restart_nats": (1, 2.0),
    "roll_back": (1, 2.0),
    "jump": (1, 0.0),
}


# Kinds that strike a process.
AT_MOMENTS = frozenset({"pause", "kill", "freeze"})


def choose_faults(
    rng: random.Random, kinds: list[str], count: int, within: float, hosts: int, clients: int
) -> list[Fault]:
    """Return some faults of these kinds, in the order of their moments. Short and long ones are equally likely."""
    weights = [KINDS[kind][0] for kind in kinds]
    chosen = []
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        moment = _choose_moment(rng, kind)
        longest = KINDS[kind][1]
        chosen.append(
            Fault(
                at=round(rng.random() * within, 3),
                kind=kind,
                node=rng.randrange(hosts if moment or rng.random() < 0.5 else hosts + clients),
                moment=moment,
                seconds=round(longest * rng.choice((0.01, 0.1, 1.0)) * rng.random(), 3),
                callbacks=rng.randrange(rng.choice((1, 4, 10) if moment else (1, 10, 200))),
                share=round(rng.random(), 3),
            )
        )
    return sorted(chosen, key=lambda fault: fault.at)


def _choose_moment(rng: random.Random, kind: str) -> str:
    if kind == "unsettle":
        return RELEASE
    return rng.choice(MOMENTS) if kind in AT_MOMENTS and rng.random() < 0.5 else ""
