"""The simulated JetStream: its streams and consumers, and the API through which nats-py reaches them."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from aidevos.testing.simulation.consumers import Consumer, Deliver, PullConsumer, PushConsumer
from aidevos.testing.simulation.streams import Refused, Stored, Stream, iso
from aidevos.testing.simulation.subjects import overlap

API = "$JS.API."


class Request(Protocol):
    """A message to the server."""

    @property
    def subject(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def headers(self) -> bytes: ...


class JetStream:
    """Streams by name. What survives a restart is on disk: all streams, and the pull consumers."""

    def __init__(self, server: Deliver, rng: random.Random, now: Callable[[], float]) -> None:
        self.streams: dict[str, Stream] = {}
        self._server = server
        self._rng = rng
        self._now = now
        self._consumers: dict[str, dict[str, Consumer]] = {}
        self._by_subject: dict[str, PushConsumer] = {}
        # The first tokens of the subjects that streams store.
        self._stored: set[str] = set()
        self._names = 0

    def restart(self) -> None:
        """Forget what is not on disk."""
        for consumers in self._consumers.values():
            for name, consumer in list(consumers.items()):
                if isinstance(consumer, PushConsumer):
                    self._delete(consumers, name)

    def note_interest(self, pattern: str) -> None:
        """Deliver what waited for a subscription."""
        consumer = self._by_subject.get(pattern)
        if consumer is not None:
            consumer.kick()

    def take(self, message: Request) -> bool:
        """Handle a message that is for JetStream; return False if it isn't."""
        prefix = message.subject.split(".", 1)[0]
        if prefix == "$JS":
            return self._take_own(message)
        if prefix in self._stored:
            for stream in self.streams.values():
                if stream.takes(message.subject):
                    self._store(stream, message)
                    return True
        return False

    def add_stream(self, config: dict[str, Any]) -> None:
        """Create a stream, as the API does."""
        if config["name"] not in self.streams:
            self.streams[config["name"]] = Stream(self._server.loop, config, self._now)
            self._consumers[config["name"]] = {}
            self._stored.update(pattern.split(".", 1)[0] for pattern in config["subjects"])

    def _store(self, stream: Stream, message: Request) -> None:
        try:
            answer = stream.publish(message.subject, message.headers, message.data)
        except Refused as refused:
            answer = refused.answer
        if answer is not None:
            self._answer(message, answer)

    def _answer(self, message: Request, answer: Any) -> None:
        if message.reply:
            data = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
            deliver, delay = self._server.deliver, self._server.latency.draw()
            self._server.loop.world.call(deliver, message.reply, message.reply, "", data, b"", delay=delay)

    def _take_own(self, message: Request) -> bool:
        tokens = message.subject.split(".")
        if tokens[1] == "ACK":
            consumer = self._consumers.get(tokens[2], {}).get(tokens[3])
            if isinstance(consumer, PullConsumer) and consumer.settle(int(tokens[5]), message.data):
                self._answer(message, b"")
            return consumer is not None
        if tokens[2:5] == ["CONSUMER", "MSG", "NEXT"]:
            consumer = self._consumers.get(tokens[5], {}).get(tokens[6])
            if isinstance(consumer, PullConsumer):
                consumer.pull(message.reply, message.data)
            return consumer is not None
        try:
            answer = self._call(tokens[2:], msgspec.json.decode(message.data) if message.data else {})
        except Refused as refused:
            answer = refused.answer
        self._answer(message, answer)
        return True

    def _call(self, tokens: list[str], asked: dict[str, Any]) -> dict[str, Any]:
        match tokens:
            case ["STREAM", "INFO", name]:
                return self._stream(name).describe(asked.get("subjects_filter", ""))
            case ["STREAM", "MSG", "GET", name]:
                return {"message": _raw(self._find(self._stream(name), asked))}
            case ["STREAM", "MSG", "DELETE", name]:
                return {"success": self._stream(name).remove(asked["seq"]) is not None}
            case ["CONSUMER", "CREATE", name, *_] | ["CONSUMER", "DURABLE", "CREATE", name, *_]:
                return self._create(self._stream(name), asked["config"]).describe()
            case ["CONSUMER", "INFO", name, consumer]:
                return self._consumer(name, consumer).describe()
            case ["CONSUMER", "DELETE", name, consumer]:
                self._consumer(name, consumer)
                self._delete(self._consumers[name], consumer)
                return {"success": True}
            case ["CONSUMER", "LIST", name]:
                found = list(self._consumers[name].values())
                page = [consumer.describe() for consumer in found[asked.get("offset", 0) :]]
                return {"consumers": page, "total": len(found), "offset": asked.get("offset", 0), "limit": 256}
        raise NotImplementedError(f"the simulation has no API {'.'.join(tokens)}")

    def _stream(self, name: str) -> Stream:
        if name not in self.streams:
            raise Refused(404, 10059, "stream not found")
        return self.streams[name]

    def _consumer(self, stream: str, name: str) -> Consumer:
        consumer = self._consumers.get(stream, {}).get(name)
        if consumer is None or consumer.gone:
            raise Refused(404, 10014, "consumer not found")
        return consumer

    def _find(self, stream: Stream, asked: dict[str, Any]) -> Stored:
        if "last_by_subj" in asked:
            pattern = asked["last_by_subj"]
            sequences = [stream.last[pattern]] if pattern in stream.last else stream.last_sequences([pattern])
            found = stream.messages[sequences[-1]] if sequences else None
        elif "next_by_subj" in asked:
            found = stream.find_next(asked["next_by_subj"], asked.get("seq") or 0)
        else:
            found = stream.messages.get(asked["seq"])
        if found is None:
            raise Refused(404, 10037, "no message found")
        return found

    def _create(self, stream: Stream, config: dict[str, Any]) -> Consumer:
        consumers, name = self._consumers[stream.name], config.get("durable_name") or config.get("name")
        if name in consumers and not consumers[name].gone:
            consumers[name].update(config)
            return consumers[name]
        if name is None:
            self._names += 1
            name = f"c{self._names}"
        kind = PushConsumer if config.get("deliver_subject") else PullConsumer
        if stream.config.get("retention") == "workqueue":
            self._check_unique(consumers, config.get("filter_subjects") or [">"])
        consumer = consumers[name] = kind(self._server, stream, name, config, self._now())
        if isinstance(consumer, PushConsumer):
            self._by_subject[consumer.subject] = consumer
        return consumer

    def _check_unique(self, consumers: dict[str, Consumer], filters: list[str]) -> None:
        for other in consumers.values():
            if any(overlap(one, another) for one in filters for another in other.filters):
                raise Refused(400, 10100, "filtered consumer not unique on workqueue stream")

    def _delete(self, consumers: dict[str, Consumer], name: str) -> None:
        consumer = consumers.pop(name)
        consumer.delete()
        if isinstance(consumer, PushConsumer):
            self._by_subject.pop(consumer.subject, None)


def _raw(message: Stored) -> dict[str, Any]:
    found: dict[str, Any] = {"subject": message.subject, "seq": message.sequence, "time": iso(message.at)}
    if message.data:
        found["data"] = base64.b64encode(message.data).decode()
    if message.headers:
        found["hdrs"] = base64.b64encode(message.headers).decode()
    return found
