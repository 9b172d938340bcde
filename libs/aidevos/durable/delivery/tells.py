"""Tells from outside: calls that clients publish to `tell.<type>.<id>.<method>`, which a stream stores first.

Promises: a tell that the stream has acknowledged is applied exactly once, or becomes a dead letter; it
leaves the stream only after the commit, or after the letter is stored. Tells to one object are applied in
the order in which they were stored, one after another, also after a crash: who takes a type over begins
at the first one that isn't done. The outcome is recorded under the caller's `Request-Id`, else its
`Nats-Msg-Id`, else the tell's place in the stream, so a tell that comes again changes nothing.

One that ends the process which tries it becomes a dead letter after some times: see `suspects`.

A tell counts as sent when it was stored: a credential that has expired since is as good as it was then.
What was decided about the caller since then counts: see `Admission.admit_stored`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from aidevos.contracts import envelope, subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.resolving import resolve_when_ready
from aidevos.durable.base.backoff import FOLLOWING, Backoff
from aidevos.durable.bus.delivering import Lanes
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.delivery.crash_suspects import CRASHES, CrashSuspects, find_crash_suspects
from aidevos.durable.delivery.dead_letters import bury
from aidevos.durable.ownership.router import DurableObjectRouter
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.headers import Reply
from aidevos.security.permissions import ANONYMOUS, Principal

log = logging.getLogger(__name__)
MESSAGE_ID = "Nats-Msg-Id"
# Tells of one type that are tried at once. Those that wait, to be tried again or for others of their object, hold up
# nobody until so many are in hand, or so many bytes.
AT_ONCE = 256
IN_HAND = 10_000
IN_HAND_BYTES = 256 * 1024 * 1024
# What is asked for in one request.
PULL = 256
PULL_BYTES = 16 * 1024 * 1024
# Seconds for which one request to the server for more tells is open.
PULL_FOR = 5.0
# Seconds after which the server gives again what wasn't acknowledged: longer than anything waits here.
ACK_WAIT = 7 * 86_400.0
ACK_WITHIN = 5.0
DEADLINE_MS = 10_000
BACKOFF = Backoff(0.1, 30.0)
# Seconds until a host that may ask for no tells looks again.
LOOK_EVERY = 0.5
_NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.TELLS_STREAM}."
# What of a caller's headers counts for the call itself.
PASSED = (envelope.CONTENT_TYPE, envelope.IF_MATCH, envelope.TRACEPARENT)


class Tell(NamedTuple):
    """A stored message; `at` is when it was stored, in seconds since the epoch."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    sequence: int
    at: float

    @property
    def target(self) -> str:
        """`<type>.<id>.<method>`, if it is well formed."""
        return self.subject.partition(".")[2]

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return len(self.payload) + sum(len(name) + len(value) for name, value in self.headers.items())

    @property
    def key(self) -> str:
        """What names the tell for ever: a stream that is made anew begins at 1 again."""
        return f"{self.sequence}.{int(self.at * 1000)}"

    @property
    def request_id(self) -> str:
        return self.headers.get(envelope.REQUEST_ID) or self.headers.get(MESSAGE_ID) or f"stored.{self.key}"


def letter_of(tell: Tell, failure: Failure, *, now: float, attempts: int, caller: Principal, hidden: bool) -> Letter:
    """The dead letter that a tell becomes; nothing of its credential is in it."""
    return Letter(
        id=letter_id("stored", tell.key),
        kind="tell",
        source=caller.subject[:200],
        subject=f"do.{tell.target}",
        payload=tell.payload,
        code=failure.code,
        detail=failure.detail,
        attempts=attempts,
        at=now,
        content_type=tell.headers.get(envelope.CONTENT_TYPE, ""),
        confidential=hidden,
        from_client=not caller.is_service,
    )


class _Hand:
    """The tells of one type that were taken and aren't done."""

    def __init__(self, suspects: CrashSuspects) -> None:
        self.suspects = suspects
        self.trying = asyncio.Semaphore(AT_ONCE)
        self.bytes = 0


class Tells:
    """Applies the tells to the types that one host owns."""

    def __init__(
        self,
        connection: Client,
        environment: Environment,
        router: DurableObjectRouter,
        admission: Admission,
        limiter: RateLimiter,
    ) -> None:
        self._connection = connection
        self._environment = environment
        self._router = router
        self._admission = admission
        self._limiter = limiter
        self._lanes = Lanes()
        self._under_way: set[int] = set()
        self._followed: set[str] = set()
        self._closed = False

    async def follow(self, type: str) -> None:
        """Take the tells to a type that this host owns, until closed."""
        self._followed.add(type)
        js, bucket = self._connection.jetstream(), Bucket(self._connection, subjects.PLACEMENT_BUCKET)
        hand: _Hand | None = None
        config = ConsumerConfig(
            durable_name=type,
            filter_subject=subjects.tell(type, "*", ">"),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=IN_HAND,
        )
        pauses = FOLLOWING.pauses()
        while not self._closed:
            try:
                hand = hand or _Hand(await find_crash_suspects(js, bucket, type, self._environment.clock.now()))
                # A new consumer begins at the first tell that is left, at once and in their order.
                with suppress(NotFoundError):
                    await js.delete_consumer(subjects.TELLS_STREAM, type)
                await js.add_consumer(subjects.TELLS_STREAM, config)
                await self._pull(type, hand)
            except (NatsError, TimeoutError) as error:
                log.warning("the tells to %s can't be read, trying again: %r", type, error)
            await pauses.wait()

    async def close(self) -> None:
        """Stop at once; what isn't done comes again to the next owner."""
        self._closed = True
        await self._lanes.close()

    async def leave(self) -> None:
        """Stop in peace: the next owner suspects nothing of having ended this process."""
        await self.close()
        js = self._connection.jetstream(timeout=ACK_WITHIN)
        deleting = (js.delete_consumer(subjects.TELLS_STREAM, type) for type in self._followed)
        await asyncio.gather(*deleting, return_exceptions=True)

    async def _pull(self, type: str, hand: _Hand) -> None:
        """Ask for tells again and again, until the server doesn't know the consumer, or may have given tells to a
        connection that was lost. Who isn't the owner any more asks for none: they would be the new owner's."""
        served, gone = asyncio.Event(), asyncio.Event()
        left = 0

        async def on_message(message: Msg) -> None:
            nonlocal left
            if message.reply:
                left -= 1
                self._take(message, hand)
            elif _says_gone(message):
                gone.set()
            if not message.reply or not left:
                served.set()

        inbox = self._connection.new_inbox()
        subscription = await self._connection.subscribe(inbox, cb=on_message, pending_msgs_limit=-1)
        asked = msgspec.json.encode({"batch": PULL, "max_bytes": PULL_BYTES, "expires": int(PULL_FOR * 1e9)})
        try:
            reconnects = self._connection.stats["reconnects"]
            while not gone.is_set() and self._connection.stats["reconnects"] == reconnects:
                if not self._environment.may_answer() or hand.bytes > IN_HAND_BYTES:
                    await asyncio.sleep(LOOK_EVERY)
                    continue
                served.clear()
                left = PULL
                await self._connection.publish(_NEXT + type, asked, reply=inbox)
                with suppress(TimeoutError):
                    await asyncio.wait_for(served.wait(), PULL_FOR + 1)
        finally:
            with suppress(NatsError):
                await subscription.unsubscribe()

    def _take(self, message: Msg, hand: _Hand) -> None:
        about = message.metadata
        sequence = about.sequence.stream
        if sequence in self._under_way or self._closed:
            return
        self._under_way.add(sequence)
        tell = Tell(message.subject, message.data, dict(message.headers or {}), sequence, about.timestamp.timestamp())
        hand.bytes += tell.size
        self._lanes.add(message.subject, partial(self._settle, tell, message.reply, hand))

    async def _settle(self, tell: Tell, done: str, hand: _Hand) -> None:
        for attempt in itertools.count(1):
            pause = BACKOFF.pause(attempt)
            try:
                async with hand.suspects.attempt(tell.sequence, tell.key) as crashes, hand.trying:
                    await self._end(tell, attempt, crashes)
                await self._connection.request(done, b"+ACK", timeout=ACK_WITHIN)
                break
            except Failure as failure:
                log.warning("the tell to %s has to wait: %s: %s", tell.target, failure.code, failure.detail)
                pause = max(failure.retry_after or 0.0, pause)
            except (NatsError, TimeoutError) as error:
                log.warning("the tell to %s was not acknowledged, trying again: %r", tell.target, error)
            except Exception:
                log.exception("the tell to %s could not be seen to, trying again", tell.target)
            await asyncio.sleep(min(pause, BACKOFF.longest))
        self._under_way.discard(tell.sequence)
        hand.bytes -= tell.size

    async def _end(self, tell: Tell, attempt: int, crashes: int) -> None:
        """Apply a tell, of which so many attempts have ended their process, or bury it; raises `Failure` when that
        has to be tried again."""
        caller = ANONYMOUS
        try:
            if tell.at + self._environment.limits.records.tell_age < self._environment.clock.now():
                raise _Refused("unavailable", "the tell was not settled in time")
            if tell.headers.get(envelope.AUTHORIZATION) or not self._router.is_open(_owned(tell)):
                caller = await self._admission.admit_stored(tell.headers.get(envelope.AUTHORIZATION), tell.at)
            if crashes >= CRASHES:
                raise _Refused("internal", "attempts to apply the tell have ended their process")
            if not caller.is_service:
                await resolve_when_ready(self._limiter.spend, caller, "", tell.target.partition(".")[0])
            await self._apply(tell, caller)
        except Failure as failure:
            if failure.retryable and not isinstance(failure, _Refused):
                raise
            type, _, rest = tell.target.partition(".")
            hidden = self._environment.registry.is_confidential(type, rest.partition(".")[2])
            attempts, now = crashes + attempt, self._environment.clock.now()
            letter = letter_of(tell, failure, now=now, attempts=attempts, caller=caller, hidden=hidden)
            await bury(self._environment.client, letter)

    async def _apply(self, tell: Tell, caller: Principal) -> None:
        answered: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def respond(answer: Reply | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        headers = {name: tell.headers[name] for name in PASSED if name in tell.headers}
        headers |= {envelope.REQUEST_ID: tell.request_id, envelope.DEADLINE: str(DEADLINE_MS)}
        self._router.dispatch(_owned(tell), tell.payload, headers, caller, respond, stored=True)
        answer = await answered
        if answer is None:
            raise Failure("moved", "this process has lost its lease")
        if answer.failed:
            failure = Failure.decode(answer.payload)
            if failure.code == "deadline-exceeded":
                raise Failure("unavailable", failure.detail)
            raise failure


def _says_gone(message: Msg) -> bool:
    """Whether a status says that there is no such consumer (503: nobody takes the request)."""
    headers = message.headers or {}
    return headers.get("Status") == "503" or "Deleted" in headers.get("Description", "")


class _Refused(Failure):
    """For good, whatever the code says."""


def _owned(tell: Tell) -> str:
    """The subject on which the call would reach the owner of its partition."""
    type, _, rest = tell.target.partition(".")
    return f"dop.{subjects.partition(type, rest.partition('.')[0])}.{tell.target}"
