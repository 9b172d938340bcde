"""Tells from clients: durable one-way calls, published to `tell.<type>.<id>.<method>` and first stored in a stream.

Promises: a tell that the stream has acknowledged is applied exactly once or becomes a dead letter. It leaves the
stream only after the commit, or after the letter is stored. Tells to one object are applied one after another in
the order in which they were stored, even after a crash and while partitions move, because a new owner begins at the
first unfinished tell.
The outcome is recorded under the caller's `Request-Id`, or else its `Nats-Msg-Id`, or else the tell's position in the
stream. A repeated tell therefore changes nothing.

A tell that repeatedly kills the process that applies it becomes a dead letter: see `crash_suspects`.

A tell counts as sent when it was stored, so a credential that has expired since then is still valid. Revocations and
role changes since then do apply: see `Admission.admit_stored`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain

import msgspec
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import BadRequestError, NotFoundError

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.base.backoff import FOLLOWING, Backoff
from aidevos.durable.base.slots import Slots
from aidevos.durable.bus.delivering import Lanes
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import Connection
from aidevos.durable.delivery.acknowledgements import ACK_WITHIN, Acknowledgements
from aidevos.durable.delivery.crash_suspects import CrashSuspects, find_suspects, load_crash_suspects
from aidevos.durable.delivery.stored_tell import Tell, read_place
from aidevos.durable.delivery.tell_applier import TellApplier
from aidevos.durable.ownership.router import DurableObjectRouter
from aidevos.durable.turns.environment import Environment

log = logging.getLogger(__name__)
# Tells to one type that all hosts together apply concurrently; each host applies its share.
CONCURRENCY = 256
# Tells that wait for a retry or for their object block no others until this many, or this many bytes, are in the hands
# of one process. This bounds its memory.
MAX_IN_HAND = 10_000
MAX_BYTES_IN_HAND = 256 * 1024 * 1024
# Partitions of one consumer. The server compares the subjects of all consumers with each other whenever one changes:
# with 2,048 each, that takes seconds.
PARTITIONS_OF_ONE = 256
# Bounds of one pull request.
PULL = 256
PULL_BYTES = 16 * 1024 * 1024
# Seconds that one pull request stays open.
PULL_FOR = 5.0
# Seconds between two looks whether the last tells were lost on their way, as between two servers of a cluster. A later
# tell shows the loss of earlier ones at once.
COMPARE_EVERY = 30.0
# Seconds after which the server redelivers an unacknowledged tell; longer than any tell waits here.
ACK_WAIT = 7 * 86_400.0
# Seconds for which an acknowledgement waits until a new consumer has delivered the tell again.
REDELIVERED_WITHIN = 1.0
BACKOFF = Backoff(0.1, 30.0)
# Seconds for which partitions that were taken or dropped wait for others before the consumer changes. That costs the
# server several writes to its disk, and the requests of that moment wait for these. What one host drops it reads no
# longer when the next one begins to.
GATHER_TAKEN, GATHER_DROPPED = 0.3, 0.05
# Seconds until a host that must not pull now checks again.
CHECK_EVERY = 0.5
# The server's error code if two consumers would read the same tells.
NOT_UNIQUE = 10100
_NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.TELLS_STREAM}."


class _Backlog:
    """The tells to one type that one consumer reads: those that were received and are not finished.

    Its partitions are those of this host among the `number`th `PARTITIONS_OF_ONE`. `trying` limits all tells to the
    type.
    """

    def __init__(self, type: str, number: int, trying: Slots) -> None:
        self.type = type
        self.number = number
        # The last owners of this host's partitions, and the suspects of those partitions whose suspects are loaded.
        self.owners: dict[int, str] = {}
        self.suspects: dict[int, CrashSuspects] = {}
        self.trying = trying
        self.bytes = 0
        # Set when the consumer should be changed, because it doesn't read exactly the partitions in `owners`.
        self.changed = asyncio.Event()
        # Subjects of tells that were stored before the server mapped them.
        self.unmapped: list[str] = []
        self._changing: asyncio.TimerHandle | None = None
        # Held while the consumer is replaced or deleted.
        self.opening = asyncio.Lock()
        # Set when something has happened that `_pull` waits for.
        self.stir = asyncio.Event()

    def change_within(self, seconds: float) -> None:
        """Let the consumer read the present partitions, which may change again in these seconds."""
        loop = asyncio.get_running_loop()
        if self._changing is None or self._changing.when() > loop.time() + seconds:
            self._stop_waiting()
            self._changing = loop.call_later(seconds, self.change)

    def change(self) -> None:
        self._stop_waiting()
        self.changed.set()
        self.stir.set()

    def _stop_waiting(self) -> None:
        if self._changing is not None:
            self._changing.cancel()
            self._changing = None


class _Delivery:
    """The latest delivery of a tell that is in hand. `current` is set unless its consumer has been replaced since."""

    __slots__ = ("ack_subject", "backlog", "current", "partition")

    def __init__(self, ack_subject: str, backlog: _Backlog, partition: int) -> None:
        self.ack_subject = ack_subject
        self.backlog = backlog
        self.partition = partition
        self.current = asyncio.Event()
        self.current.set()

    @property
    def is_served(self) -> bool:
        """True if the tell is still this host's to apply."""
        return self.partition in self.backlog.suspects


class Tells:
    """Applies the tells to the partitions that one host owns. `incarnation` names the host's consumers.

    `share` returns this host's share of a limit for all hosts of its service.
    """

    def __init__(
        self,
        connection: Connection,
        incarnation: str,
        environment: Environment,
        router: DurableObjectRouter,
        admission: Admission,
        limiter: RateLimiter,
        share: Callable[[int], int] = lambda limit: limit,
    ) -> None:
        self._connection = connection
        self._acknowledgements = Acknowledgements(connection)
        self._js = connection.jetstream(timeout=ACK_WITHIN)
        self._incarnation = incarnation
        self._environment = environment
        self.applier = TellApplier(environment, router, admission, limiter, share)
        self._crashes = Bucket(connection, subjects.PLACEMENT_BUCKET)
        self._alone = asyncio.Lock()
        self._lanes = Lanes()
        self._in_progress: dict[int, _Delivery] = {}
        consumers = range(-(-environment.partitions.count // PARTITIONS_OF_ONE))
        self._backlogs: dict[str, list[_Backlog]] = {}
        for type in environment.registry.types:
            trying = Slots(lambda: share(CONCURRENCY))
            self._backlogs[type] = [_Backlog(type, number, trying) for number in consumers]
        self._closed = False

    def take(self, type: str, partitions: Mapping[int, str]) -> None:
        """Apply the tells to these partitions from now on. The values are their last owners, or empty strings."""
        for backlog in self._backlogs[type]:
            taken = {each: owner for each, owner in partitions.items() if each // PARTITIONS_OF_ONE == backlog.number}
            if taken:
                backlog.owners.update(taken)
                backlog.change_within(GATHER_TAKEN)

    def drop(self, type: str, partition: int) -> None:
        """Take no further tell to a partition. Unfinished ones are left to its next owner."""
        backlog = self._backlogs[type][partition // PARTITIONS_OF_ONE]
        if backlog.owners.pop(partition, None) is not None:
            backlog.suspects.pop(partition, None)
            backlog.change_within(GATHER_DROPPED)

    async def follow(self, type: str) -> None:
        """Apply the tells to a type until closed."""
        await asyncio.gather(*map(self._follow, self._backlogs[type]))

    async def _follow(self, backlog: _Backlog) -> None:
        pauses = FOLLOWING.pauses()
        while not self._closed:
            await backlog.changed.wait()
            if not self._environment.partitions.is_live():
                await asyncio.sleep(CHECK_EVERY)
                continue
            try:
                async with backlog.opening:
                    if self._closed:
                        return
                    await self._open_consumer(backlog)
                if backlog.suspects:
                    await self._pull(backlog)
                    continue
            except (NatsError, TimeoutError) as error:
                log.warning("reading the tells to %s failed, trying again: %r", backlog.type, error)
                backlog.change()
                await pauses.wait()

    async def close(self) -> None:
        """Stop at once. The next owner receives the unfinished tells again."""
        self._closed = True
        await self._lanes.close()

    async def leave(self) -> None:
        """Stop cleanly, so that the next owners suspect no tell of having killed this process."""
        await self.close()

        async def delete(backlog: _Backlog) -> None:
            async with backlog.opening:
                await self._delete_consumer(backlog, self._incarnation)

        with suppress(TimeoutError):
            async with asyncio.timeout(ACK_WITHIN):
                every = chain.from_iterable(self._backlogs.values())
                await asyncio.gather(*map(delete, every), return_exceptions=True)

    async def _load_suspects(self, backlog: _Backlog) -> None:
        """Find the suspects of the partitions that are new, and delete the consumers of their dead owners."""
        new = {each: owner for each, owner in backlog.owners.items() if each not in backlog.suspects}
        load = partial(load_crash_suspects, self._crashes, self._alone, backlog.type)
        for owner in sorted(set(new.values())):
            partitions, upto = [each for each in new if new[each] == owner], 0
            if owner:
                consumer = _consumer(backlog, owner)
                upto = await find_suspects(self._js, consumer, self._environment.clock.now())
            loaded = await asyncio.gather(*(load(each, upto) for each in partitions))
            if owner:
                await self._delete_consumer(backlog, owner)
            found = zip(partitions, loaded, strict=True)
            backlog.suspects |= {each: suspects for each, suspects in found if each in backlog.owners}

    async def _delete_consumer(self, backlog: _Backlog, owner: str) -> None:
        with suppress(NotFoundError):
            await self._js.delete_consumer(subjects.TELLS_STREAM, _consumer(backlog, owner))

    async def _open_consumer(self, backlog: _Backlog) -> None:
        """Make a new consumer of this host's partitions, which starts at the first remaining tell of each."""
        backlog.changed.clear()
        await self._load_suspects(backlog)
        for delivery in self._in_progress.values():
            if delivery.backlog is backlog:
                delivery.current.clear()
        await self._delete_consumer(backlog, self._incarnation)
        partitions = set(backlog.suspects)
        if partitions:
            backlog.unmapped = await self._find_unmapped(backlog.type, partitions)
            config = self._config_of(backlog)
            try:
                await self._js.add_consumer(subjects.TELLS_STREAM, config)
            except BadRequestError as error:
                if error.err_code != NOT_UNIQUE:
                    raise
                await self._delete_overlapping(config.filter_subjects or [])
                await self._js.add_consumer(subjects.TELLS_STREAM, config)

    async def _narrow_consumer(self, backlog: _Backlog) -> bool:
        """Let the consumer read less, after partitions were dropped. Return False if it must be made anew.

        A consumer that gets further subjects would pass over what is already stored under them.
        """
        async with backlog.opening:
            if self._closed or not backlog.owners or backlog.owners.keys() != backlog.suspects.keys():
                return False
            backlog.changed.clear()
            await self._js.add_consumer(subjects.TELLS_STREAM, self._config_of(backlog))
            return True

    def _config_of(self, backlog: _Backlog) -> ConsumerConfig:
        """Return the consumer of the partitions whose suspects are loaded."""
        mapped = [subjects.stored_tells(backlog.type, each) for each in sorted(backlog.suspects)]
        unmapped = (each for each in backlog.unmapped if self._partition_of_subject(each) in backlog.suspects)
        return ConsumerConfig(
            durable_name=_consumer(backlog, self._incarnation),
            filter_subjects=[*mapped, *unmapped],
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=MAX_IN_HAND,
        )

    async def _delete_overlapping(self, filters: Collection[str]) -> None:
        """Delete all consumers of tells that this host reads, because it owns their partitions.

        Their hosts have died, and so has everyone who could have deleted them. One that lives makes a new consumer.
        """
        offset = 0
        while page := await self._js.consumers_info(subjects.TELLS_STREAM, offset):
            offset += len(page)
            for consumer in page:
                if not set(filters).isdisjoint(consumer.config.filter_subjects or [consumer.config.filter_subject]):
                    log.warning("the consumer %s is left over: deleting it", consumer.name)
                    with suppress(NotFoundError):
                        await self._js.delete_consumer(subjects.TELLS_STREAM, consumer.name)

    async def _find_unmapped(self, type: str, partitions: Collection[int]) -> list[str]:
        """Return the subjects of tells to these partitions that were stored before the server mapped tells."""
        state = (await self._js.stream_info(subjects.TELLS_STREAM, subjects_filter=f"tell.{type}.*.>")).state
        return [each for each in state.subjects or {} if self._partition_of_subject(each) in partitions]

    def _partition_of_subject(self, subject: str) -> int:
        return self._environment.partitions.of_target(subjects.tell_target(subject))

    async def _pull(self, backlog: _Backlog) -> None:
        """Pull tells until the consumer is gone or must be made anew, or until a reconnect, which may lose tells."""
        gone = False
        # What the open request may still bring, and what this consumer has brought.
        left = received = 0

        def take(subject: bytes, reply: bytes, payload: bytes, headers: bytes) -> None:
            nonlocal left, gone, received
            if not reply:
                left, gone = 0, gone or _is_consumer_gone(headers)
            elif (place := read_place(reply.decode())).delivered == received + 1:
                left, received = left - 1, received + 1
                message = self._connection.open_message(subject, reply, payload, headers)
                tell = Tell(message.subject, payload, message.headers or {}, place.sequence, place.at)
                self._receive(tell, message.reply, backlog)
            else:
                log.warning("a tell to %s was lost on its way: reading them anew", backlog.type)
                left, gone = 0, True
            if left <= 0:
                backlog.stir.set()

        inbox = self._connection.new_inbox()
        subscription = await self._connection.hand_over(inbox, "", take)
        pull = msgspec.json.encode({"batch": PULL, "max_bytes": PULL_BYTES, "expires": int(PULL_FOR * 1e9)})
        loop, reconnects, until = asyncio.get_running_loop(), self._connection.stats["reconnects"], 0.0
        compare_at = loop.time() + COMPARE_EVERY
        try:
            while not gone and self._connection.stats["reconnects"] == reconnects:
                if backlog.changed.is_set() and not await self._narrow_consumer(backlog):
                    break
                if left > 0 and loop.time() < until:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(backlog.stir.wait(), until - loop.time())
                    backlog.stir.clear()
                elif not self._environment.partitions.is_live() or backlog.bytes > MAX_BYTES_IN_HAND:
                    await asyncio.sleep(CHECK_EVERY)
                elif loop.time() >= compare_at:
                    # No request is open, so nothing is on its way.
                    compare_at = loop.time() + COMPARE_EVERY
                    gone |= await self._count_delivered(backlog) > received
                else:
                    left, until = PULL, loop.time() + PULL_FOR + 1
                    await self._connection.publish(_NEXT + _consumer(backlog, self._incarnation), pull, reply=inbox)
            backlog.change()
        finally:
            with suppress(NatsError):
                await subscription.unsubscribe()

    async def _count_delivered(self, backlog: _Backlog) -> int:
        """Return how many tells the server has sent from this host's consumer."""
        info = await self._js.consumer_info(subjects.TELLS_STREAM, _consumer(backlog, self._incarnation))
        return int(info.delivered.consumer_seq) if info.delivered else 0

    def _receive(self, tell: Tell, ack_subject: str, backlog: _Backlog) -> None:
        known = self._in_progress.get(tell.sequence)
        if known is not None:
            known.ack_subject = ack_subject
            known.current.set()
            return
        delivery = _Delivery(ack_subject, backlog, self._environment.partitions.of_target(tell.target))
        if not self._closed and delivery.is_served:
            self._in_progress[tell.sequence] = delivery
            backlog.bytes += tell.size
            self._lanes.add(f"tell.{tell.target}", partial(self._settle, tell, delivery))

    async def _settle(self, tell: Tell, delivery: _Delivery) -> None:
        try:
            for attempt in itertools.count(1):
                if not delivery.is_served or await self._try(tell, delivery, attempt):
                    break
        finally:
            del self._in_progress[tell.sequence]
            delivery.backlog.bytes -= tell.size

    async def _try(self, tell: Tell, delivery: _Delivery, attempt: int) -> bool:
        """Apply a tell. If that fails, pause and return False."""
        suspects, pause = delivery.backlog.suspects[delivery.partition], BACKOFF.pause(attempt)
        try:
            async with suspects.attempt(tell.sequence, tell.key) as crashes, delivery.backlog.trying:
                await self.applier.apply_or_bury(tell, attempt, crashes)
            await self._acknowledge(delivery)
            return True
        except Failure as failure:
            log.warning("the tell to %s failed, trying again: %s: %s", tell.target, failure.code, failure.detail)
            pause = max(failure.retry_after or 0.0, pause)
        except (NatsError, TimeoutError) as error:
            log.warning("acknowledging the tell to %s failed, trying again: %r", tell.target, error)
        except Exception:
            log.exception("handling the tell to %s failed, trying again", tell.target)
        await asyncio.sleep(min(pause, BACKOFF.longest))
        return False

    async def _acknowledge(self, delivery: _Delivery) -> None:
        """Acknowledge a tell. A new consumer ignores that until it has delivered the tell again."""
        if not delivery.current.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(delivery.current.wait(), REDELIVERED_WITHIN)
        await self._acknowledgements.send(delivery.ack_subject)


def _is_consumer_gone(headers: bytes) -> bool:
    """Return True if a status message means that the consumer is gone (503: no responder)."""
    return headers.startswith(b"NATS/1.0 503") or b"Deleted" in headers.partition(b"\r\n")[0]


def _consumer(backlog: _Backlog, incarnation: str) -> str:
    """Return the name of a host's consumer of these tells."""
    name = f"{backlog.type}_{incarnation.replace('.', '-')}"
    return f"{name}_{backlog.number}" if backlog.number else name
