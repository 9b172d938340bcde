"""The simulated NATS server: subjects, queue groups, mappings and inboxes.

It keeps what the real one promises, and no more. Messages from one connection to one other keep their order;
everything else may overtake. A message to a connection that is about to break is lost without a sign. JetStream's
answers come from other threads of the server, so they may overtake what was published before.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from aidevos.contracts import subjects
from aidevos.testing.simulation.jetstream import JetStream
from aidevos.testing.simulation.loop import Process, VirtualLoop
from aidevos.testing.simulation.network import Latency, Pipe
from aidevos.testing.simulation.subjects import Interest

NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


class Message(NamedTuple):
    """A message, with its headers as they are sent, or empty."""

    subject: str
    reply: str
    data: bytes
    headers: bytes


class Link:
    """A connection as the server sees it, with its subscriptions by number.

    `receive` takes what the server sends, and `on_reset` notices that the connection has broken. Both run in the
    client's process.
    """

    def __init__(
        self,
        server: NatsServer,
        process: Process,
        latency: Latency,
        receive: Callable[..., object],
        on_reset: Callable[[], object],
    ) -> None:
        self.server = server
        self.process = process
        self.open = True
        self.subscriptions: dict[int, Subscription] = {}
        self._on_reset = on_reset
        self.up = Pipe(server.loop, server.loop.world, latency, self._handle)
        self.down = Pipe(server.loop, process, latency, receive)

    def send(self, *command: object) -> None:
        """Send a command to the server."""
        self.up.send(*command)

    def cut(self) -> None:
        """Hold back everything in both directions."""
        self.up.hold()
        self.down.hold()

    def restore(self) -> None:
        self.up.restore()
        self.down.restore()

    def reset(self, *, server_notices_after: float = 0.0) -> None:
        """Break the connection. What is on its way may arrive at the server, but no longer at the client."""
        if not self.open:
            return
        self.open = False
        self.down.close()
        self.process.call(self._on_reset)
        self.server.loop.world.call(self.close, delay=server_notices_after)

    def close(self) -> None:
        """End the connection at the server."""
        self.open = False
        self.up.close()
        for number in list(self.subscriptions):
            self.server.unsubscribe(self, number)
        self.server.links.pop(self, None)

    def _handle(self, kind: str, *details: Any) -> None:
        if kind == "pub":
            self.server.publish(self, Message(*details))
        elif kind == "sub":
            self.server.subscribe(self, *details)
        elif kind == "unsub":
            self.server.unsubscribe(self, *details)
        elif kind == "close":
            self.close()
        else:
            self.down.send("pong")


class Subscription(NamedTuple):
    """A subscription of a link. Its pattern, queue group and number never change."""

    link: Link
    number: int
    pattern: str
    queue: str


class NatsServer:
    """The server. `partitions` is the number in its mappings, and `now` its wall clock, in seconds since the epoch."""

    def __init__(
        self, loop: VirtualLoop, rng: random.Random, latency: Latency, partitions: int, now: Callable[[], float]
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.latency = latency
        self.links: dict[Link, None] = {}
        self.down = False
        # The share of messages that are lost on their way to a subscriber.
        self.loss = 0.0
        self.messages = 0
        # Reply subjects of requests that several subscribers took.
        self.taken_twice: set[str] = set()
        self._partitions = partitions
        self._mapped: dict[str, str] = {}
        self._interest: Interest[Subscription] = Interest()
        self.jetstream = JetStream(self, rng, now)

    def open_link(self, process: Process, receive: Callable[..., object], on_reset: Callable[[], object]) -> Link:
        """Return a new connection of a process."""
        link = Link(self, process, self.latency, receive, on_reset)
        self.links[link] = None
        return link

    def restart(self) -> None:
        """Break all connections and forget everything but the streams on disk."""
        for link in list(self.links):
            link.reset()
        self.jetstream.restart()

    def subscribe(self, link: Link, number: int, pattern: str, queue: str) -> None:
        subscription = link.subscriptions[number] = Subscription(link, number, pattern, queue)
        self._interest.add(pattern, subscription)
        self.jetstream.note_interest(pattern)

    def unsubscribe(self, link: Link, number: int) -> None:
        subscription = link.subscriptions.pop(number, None)
        if subscription is not None:
            self._interest.remove(subscription.pattern, subscription)

    def has_interest(self, subject: str) -> bool:
        """Return True if a connection subscribes to this subject."""
        return bool(self._interest.match(subject))

    def publish(self, link: Link, message: Message) -> None:
        """Take a message from a connection."""
        self.messages += 1
        taken = False
        if not message.subject.startswith("_INBOX"):
            message = self._map(message)
            taken = self.jetstream.take(message)
        if not self._route(message.subject, message) and not taken and message.reply:
            for subscription in self._interest.match(message.reply):
                if subscription.link is link:
                    link.down.send("msg", subscription.number, Message(message.reply, "", b"", NO_RESPONDERS))

    def deliver(self, to: str, subject: str, reply: str, data: bytes, headers: bytes) -> None:
        """Send a message of a stream to the subscribers of another subject."""
        self._route(to, Message(subject, reply, data, headers))

    def _route(self, to: str, message: Message) -> bool:
        """Send a message to the subscribers of a subject, one for each queue group. Return False if none exist."""
        found = self._interest.match(to)
        queues: dict[str, list[Subscription]] | None = None
        for subscription in found:
            if not subscription.queue:
                self._send(subscription, message)
            else:
                queues = {} if queues is None else queues
                queues.setdefault(subscription.queue, []).append(subscription)
        for members in queues.values() if queues else ():
            self._send(self.rng.choice(members), message)
        if len(found) > 1 and message.reply:
            self.taken_twice.add(message.reply)
        return bool(found)

    def _send(self, subscription: Subscription, message: Message) -> None:
        if not self.loss or self.rng.random() >= self.loss:
            subscription.link.down.send("msg", subscription.number, message)

    def _map(self, message: Message) -> Message:
        if not message.subject.startswith(("do.", "tell.")):
            return message
        mapped = self._mapped.get(message.subject)
        if mapped is None:
            mapped = self._mapped[message.subject] = _map(message.subject, self._partitions)
        return message._replace(subject=mapped)


def _map(subject: str, partitions: int) -> str:
    tokens = subject.split(".", 3)
    if len(tokens) < 4:
        return subject
    prefix, type, id, method = tokens
    return f"{prefix}p.{subjects.partition(type, id, partitions)}.{type}.{id}.{method}"
