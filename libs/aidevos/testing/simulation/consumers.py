"""The consumers of the simulated JetStream: push consumers for watches, and pull consumers with acknowledgements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from aidevos.durable.bus.delivering import matches
from aidevos.testing.simulation.loop import VirtualLoop
from aidevos.testing.simulation.network import Latency
from aidevos.testing.simulation.streams import Stored, Stream, iso

# Seconds without interest after which a consumer without a name is deleted.
FORGOTTEN_AFTER = 5.0
# The delay of a delivery, in relation to others. It seldom comes later than an answer that was asked for after it.
FAST = 0.1


class Deliver(Protocol):
    """The sender of the messages of consumers."""

    loop: VirtualLoop
    latency: Latency

    def has_interest(self, subject: str) -> bool: ...

    def deliver(self, to: str, subject: str, reply: str, data: bytes, headers: bytes) -> None: ...


class Consumer(ABC):
    """The common part of push and pull consumers: the messages of the stream that wait to be delivered."""

    def __init__(self, server: Deliver, stream: Stream, name: str, config: dict[str, Any], now: float) -> None:
        self.name = name
        self.config = config
        self.created = now
        self.filters: list[str] = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        self.gone = False
        self._server = server
        self._stream = stream
        self._waiting = deque(self._start())
        # The sequences of the last delivery, in the stream and of this consumer.
        self.delivered_stream = self.delivered = 0
        # When the last message leaves; later ones follow in order.
        self._busy_until = 0.0
        stream.on_stored[self] = self._on_stored

    def describe(self) -> dict[str, Any]:
        return {
            "stream_name": self._stream.name,
            "name": self.name,
            "created": iso(self.created),
            "config": self.config,
            "delivered": {"consumer_seq": self.delivered, "stream_seq": self.delivered_stream},
            "num_pending": self._count_waiting(),
            "num_ack_pending": 0,
            "num_redelivered": 0,
            "num_waiting": 0,
        }

    def update(self, config: dict[str, Any]) -> None:
        """Read other subjects from now on. What is stored under new ones already is passed over."""
        self.config, self.filters = config, config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        stored = self._stream.messages
        self._waiting = deque(each for each in self._waiting if each in stored and self._matches(stored[each]))

    def delete(self) -> None:
        self.gone = True
        self._stream.on_stored.pop(self, None)

    @abstractmethod
    def kick(self) -> None:
        """Deliver what can be delivered now."""

    def _start(self) -> list[int]:
        policy, last = self.config.get("deliver_policy", "all"), self._stream.last_sequence
        if policy == "last_per_subject":
            return self._stream.last_sequences(self.filters)
        if policy == "new":
            return []
        first = self.config.get("opt_start_seq", 0) if policy == "by_start_sequence" else 0
        kept = [each for each in self._stream.messages.values() if first <= each.sequence <= last]
        return [each.sequence for each in kept if self._matches(each)]

    def _matches(self, message: Stored) -> bool:
        return any(matches(pattern, message.subject) for pattern in self.filters)

    def _on_stored(self, message: Stored) -> None:
        if self._matches(message):
            self._waiting.append(message.sequence)
            self.kick()

    def _count_waiting(self) -> int:
        return sum(sequence in self._stream.messages for sequence in self._waiting)

    def _next(self) -> Stored | None:
        while self._waiting:
            message = self._stream.messages.get(self._waiting.popleft())
            if message is not None:
                return message
        return None

    def _send(self, to: str, message: Stored, attempt: int) -> None:
        self.delivered += 1
        self.delivered_stream = max(self.delivered_stream, message.sequence)
        reply = (
            f"$JS.ACK.{self._stream.name}.{self.name}.{attempt}.{message.sequence}.{self.delivered}"
            f".{int(message.at * 1e9)}.{self._count_waiting()}"
        )
        self._after_delay(self._server.deliver, to, message.subject, reply, message.data, message.headers)

    def _after_delay(self, call: Callable[..., object], *args: object) -> None:
        loop = self._server.loop
        self._busy_until = max(self._busy_until, loop.now + self._server.latency.draw() * FAST)
        loop.call_at(self._busy_until, call, *args, context=loop.world.context)


class PushConsumer(Consumer):
    """A consumer that sends to one subject, without acknowledgements and with signs of life. No disk knows it."""

    def __init__(self, server: Deliver, stream: Stream, name: str, config: dict[str, Any], now: float) -> None:
        super().__init__(server, stream, name, config, now)
        self.subject: str = config["deliver_subject"]
        self._sent_since_beat = False
        self._unheard = 0.0
        self._every: float = config.get("idle_heartbeat", 0) / 1e9 or 5.0
        server.loop.world.call(self._beat, delay=self._every)
        self.kick()

    def kick(self) -> None:
        while not self.gone and self._waiting and self._server.has_interest(self.subject):
            message = self._next()
            if message is not None:
                self._sent_since_beat = True
                self._send(self.subject, message, 1)

    def _beat(self) -> None:
        if self.gone:
            return
        self._unheard = 0.0 if self._server.has_interest(self.subject) else self._unheard + self._every
        if self._unheard >= FORGOTTEN_AFTER:
            self.delete()
            return
        if not self._sent_since_beat and not self._unheard:
            head = f"Nats-Last-Consumer: {self.delivered}\r\nNats-Last-Stream: {self.delivered_stream}"
            headers = f"NATS/1.0 100 Idle Heartbeat\r\n{head}\r\n\r\n".encode()
            self._after_delay(self._server.deliver, self.subject, self.subject, "", b"", headers)
        self._sent_since_beat = False
        self.kick()
        self._server.loop.world.call(self._beat, delay=self._every)


class PullConsumer(Consumer):
    """A durable consumer from which messages are pulled and which keeps them until they are acknowledged."""

    def __init__(self, server: Deliver, stream: Stream, name: str, config: dict[str, Any], now: float) -> None:
        super().__init__(server, stream, name, config, now)
        self._requests: deque[tuple[str, list[int]]] = deque()
        # How often the unacknowledged messages were delivered.
        self._unsettled: dict[int, int] = {}
        self._again: deque[int] = deque()

    def delete(self) -> None:
        super().delete()
        for reply, _ in self._requests:
            self._refuse(reply, "409 Consumer Deleted")
        self._requests.clear()

    def pull(self, reply: str, payload: bytes) -> None:
        asked = msgspec.json.decode(payload) if payload else {}
        request = (reply, [asked.get("batch", 1)])
        self._requests.append(request)
        if "expires" in asked:
            self._server.loop.world.call(self._end, request, delay=asked["expires"] / 1e9)
        self.kick()

    def kick(self) -> None:
        most = self.config.get("max_ack_pending", 1000)
        while self._requests and (self._again or (self._waiting and len(self._unsettled) < most)):
            reply, left = self._requests[0]
            if not self._server.has_interest(reply):
                self._requests.popleft()
                continue
            message = self._stream.messages.get(self._again.popleft()) if self._again else self._next()
            if message is None:
                continue
            attempt = self._unsettled[message.sequence] = self._unsettled.get(message.sequence, 0) + 1
            self._send(reply, message, attempt)
            self._server.loop.world.call(
                self._redeliver, message.sequence, attempt, delay=self.config.get("ack_wait", 30e9) / 1e9
            )
            left[0] -= 1
            if not left[0]:
                self._requests.popleft()

    def settle(self, sequence: int, answer: bytes) -> bool:
        """Take an acknowledgement. Return False for that of a message that this consumer hasn't delivered."""
        if self.gone or sequence > self.delivered_stream:
            return False
        if sequence not in self._unsettled:
            return True
        if answer.startswith(b"-NAK"):
            delay = msgspec.json.decode(answer[4:])["delay"] / 1e9 if len(answer) > 5 else 0.0
            self._server.loop.world.call(self._redeliver, sequence, self._unsettled[sequence], delay=delay)
        elif not answer.startswith(b"+WPI"):
            del self._unsettled[sequence]
            if self._stream.config.get("retention") == "workqueue":
                self._stream.remove(sequence)
            self.kick()
        return True

    def _redeliver(self, sequence: int, attempt: int) -> None:
        if not self.gone and self._unsettled.get(sequence) == attempt and sequence not in self._again:
            self._again.append(sequence)
            self.kick()

    def _end(self, request: tuple[str, list[int]]) -> None:
        if any(each is request for each in self._requests):
            self._requests.remove(request)
            self._refuse(request[0], "408 Request Timeout")

    def _refuse(self, reply: str, status: str) -> None:
        headers = f"NATS/1.0 {status}\r\n\r\n".encode()
        self._after_delay(self._server.deliver, reply, reply, "", b"", headers)
