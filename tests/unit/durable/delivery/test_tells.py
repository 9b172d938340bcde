"""External tells when something goes wrong: no tell is lost, and none blocks those after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from nats.errors import Error as NatsError

from aidevos import BaseDurableObject, authenticated, command, query
from aidevos.contracts.errors import Failure
from aidevos.contracts.rate_limits import DEFAULT
from aidevos.contracts.subjects import PARTITIONS, partition
from aidevos.durable.access.limiter import RateLimited, Verdict
from aidevos.durable.access.resolving import NotReady
from aidevos.durable.base.slots import Slots
from aidevos.durable.delivery.anonymous_letters import RATE, SUBJECT_LIMIT
from aidevos.durable.delivery.crash_suspects import CRASHES, CrashSuspects
from aidevos.durable.delivery.stored_tell import Tell, read_place
from aidevos.durable.delivery.tells import CONCURRENCY, Tells, _Backlog
from aidevos.durable.hosting.peers import Peers
from aidevos.durable.turns.headers import Reply
from aidevos.observability.metrics import REFUSED_TELLS
from aidevos.security.gcra import Policy
from aidevos.security.permissions import Principal
from aidevos.testing import ObjectKit
from tests.support.kits import START, failure, quiet, until

ADA = Principal("ada", ("user",), frozenset(), START + 3600)
# The sender of the tell that is being attempted when the process ends.
EVE = Principal("eve", ("user",), frozenset(), START + 3600)
NO_MORE = RateLimited(Verdict(DEFAULT, Policy(1, 1.0), 0, 0.05))


class SlateState(msgspec.Struct):
    lines: list[int] = []


class Slate(BaseDurableObject[SlateState], type="slate"):
    @command(allow=authenticated())
    async def write(self, line: int) -> None:
        self.state.lines.append(line)

    @query(allow=authenticated())
    async def lines(self) -> list[int]:
        return self.state.lines


class Bucket:
    """Keeps one key of the server's bucket; writes fail while it is `away`."""

    def __init__(self) -> None:
        self.ended: dict[str, int] = {}
        self.writes = 0
        self.away = False

    async def put(self, key: str, value: bytes) -> None:
        if self.away:
            raise NatsError("away on purpose")
        self.ended = msgspec.json.decode(value)
        self.writes += 1


class World:
    """Fakes of everything around the tells; admission and limiter raise their queued errors first, one per call."""

    def __init__(self, kit: ObjectKit) -> None:
        self.kit = kit
        self.troubles: list[Exception] = []
        self.limits: list[Exception] = []
        self.done: list[str] = []
        self.bucket: Any = Bucket()
        self.begin()

    async def admit_stored(self, authorization: str | None, at: float) -> Principal:
        if self.troubles:
            raise self.troubles.pop(0)
        return EVE if authorization == "Bearer eve" else ADA

    def spend(self, caller: Principal, address: str, group: str) -> None:
        assert (address, group) == ("", "slate")
        if caller is EVE:
            self.fatal.set()
            raise NotReady(asyncio.get_running_loop().create_future())
        if self.limits:
            raise self.limits.pop(0)

    def jetstream(self, **options: Any) -> None: ...

    def new_inbox(self) -> str:
        return "_INBOX.tells"

    async def hand_over(self, subject: str, queue: str, take: Callable[..., None]) -> None:
        self.confirm = take

    async def publish(self, subject: str, payload: bytes, reply: str) -> None:
        self.done.append(subject)
        self.confirm(reply.encode(), b"", b"", b"")

    def begin(self, upto: int = 0) -> None:
        """Become the next owner, after a short life in which `upto` tells were taken."""
        around: Any = self
        self.fatal = asyncio.Event()
        self.tells = Tells(around, "host.1", self.kit.runtime.environment, self.kit.router, around, around)
        suspects = CrashSuspects(self.bucket, asyncio.Lock(), "slate.crashes", upto, dict(self.bucket.ended))
        self.backlog = _Backlog("slate", 0, Slots(lambda: CONCURRENCY))
        self.backlog.suspects = dict.fromkeys(range(PARTITIONS), suspects)

    async def die(self) -> None:
        """End like a process killed in the middle of an attempt: its later writes have no effect."""
        await self.fatal.wait()
        ended = self.bucket.ended
        await self.tells.close()
        self.bucket.ended = ended

    def take(self, line: int, id: str = "a", caller: str = "ada") -> None:
        """Deliver a tell from the stream."""
        subject, payload = f"tellp.{partition('slate', id)}.slate.{id}.write", msgspec.json.encode({"line": line})
        tell = Tell(subject, payload, {"Authorization": f"Bearer {caller}"}, line, START)
        self.tells._receive(tell, f"ack.{line}", self.backlog)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ObjectKit(Slate) as kit:
        world = World(kit)
        yield world
        await world.tells.close()


@pytest.mark.parametrize("trouble", [RuntimeError("a bug"), ValueError("another"), TimeoutError()])
async def test_what_nobody_has_thought_of_holds_up_a_tell_and_loses_neither_it_nor_those_behind(
    world: World, trouble: Exception
) -> None:
    world.troubles = [trouble]
    for line in range(3):
        world.take(line)

    await until(lambda: len(world.done) == 3)

    assert await world.kit.call("slate", "a", "lines") == [0, 1, 2]
    assert world.done == ["ack.0", "ack.1", "ack.2"]


async def test_tells_without_a_valid_credential_leave_few_letters_and_no_messages(world: World) -> None:
    refused = REFUSED_TELLS.labels().value
    count = RATE.capacity + 20
    world.troubles = [Failure("unauthenticated", "no") for _ in range(count)]
    for line in range(count):
        world.take(line, id=f"{line}" + "x" * 300)
    await until(lambda: len(world.done) == count)

    letters = list(world.kit.letters.values())
    assert len(letters) == RATE.capacity
    assert {(letter.payload, letter.message_kept, letter.source) for letter in letters} == {(b"", False, "")}
    assert max(len(letter.subject) for letter in letters) == SUBJECT_LIMIT
    assert REFUSED_TELLS.labels().value == refused + count


async def test_a_tell_that_is_refused_with_a_valid_credential_keeps_its_message(world: World) -> None:
    world.take(1)
    world.tells.applier._router = SimpleNamespace(  # type: ignore[assignment]
        is_open=lambda subject: False,
        dispatch=lambda subject, payload, headers, caller, respond, stored: respond(
            Reply.of(Failure("forbidden", "no"))
        ),
    )
    await until(lambda: world.done)

    (letter,) = world.kit.letters.values()
    assert (letter.payload, letter.message_kept, letter.source) == (b'{"line":1}', True, "ada")


@pytest.mark.parametrize("known", [True, False])
async def test_a_stray_keeps_its_message_only_with_a_valid_credential(world: World, known: bool) -> None:
    world.troubles = [] if known else [Failure("unauthenticated", "no")]
    stray = Tell("tell.slate.a.b", b"secret", {"Authorization": "Bearer ada", "Content-Type": "x"}, 1, START)
    await world.tells.applier.bury_stray(stray, Failure("unknown-type", "no such type"))

    (letter,) = world.kit.letters.values()
    assert letter.code == "unknown-type"
    assert (letter.payload, letter.content_type, letter.message_kept, letter.source) == (
        (b"secret", "x", True, "ada") if known else (b"", "", False, "")
    )


async def test_strays_are_under_their_senders_rate_limit(world: World) -> None:
    world.limits = [NO_MORE]
    stray = Tell("tell.slate.a.b", b"{}", {"Authorization": "Bearer ada"}, 1, START)

    assert (await failure(world.tells.applier.bury_stray(stray, Failure("unknown-type", "no")))).code == "rate-limited"
    assert world.kit.letters == {}


async def test_a_tell_past_its_callers_rate_limit_waits_for_it(world: World) -> None:
    world.limits = [NO_MORE, NO_MORE]
    world.take(1)
    await until(lambda: len(world.limits) == 1)
    assert await world.kit.call("slate", "a", "lines") == []

    await until(lambda: world.done)

    assert await world.kit.call("slate", "a", "lines") == [1]
    assert world.kit.letters == {}


async def test_what_ends_its_process_becomes_a_dead_letter_and_nothing_counts_against_those_beside_and_behind_it(
    world: World,
) -> None:
    for crashes in range(CRASHES):
        world.begin(upto=4)
        world.take(1, "a") if not crashes else None
        world.take(2, "b", "eve")
        world.take(3, "b")
        world.take(4, "c")
        await world.die()
        assert world.bucket.ended == {f"2.{START * 1000:.0f}": crashes + 1}
    assert world.kit.letters == {}

    world.begin(upto=4)
    world.take(2, "b", "eve")
    world.take(3, "b")
    world.take(4, "c")
    await until(lambda: len(world.done) == 4)

    assert [(letter.source, letter.code) for letter in world.kit.letters.values()] == [("eve", "internal")]
    assert [await world.kit.call("slate", id, "lines") for id in "abc"] == [[1], [3], [4]]
    assert world.bucket.ended == {}


async def test_one_suspect_is_tried_at_a_time_and_what_nobody_suspects_beside_it(world: World) -> None:
    world.begin(upto=2)
    world.take(1, "a", "eve")
    world.take(2, "b")
    world.take(3, "c")

    await until(lambda: world.done)

    assert world.done == ["ack.3"]
    assert await world.kit.call("slate", "b", "lines") == []


@pytest.mark.parametrize("trouble", [RuntimeError("a bug"), NO_MORE], ids=["a bug", "over the limit"])
async def test_an_attempt_that_comes_to_an_end_is_not_counted_whatever_that_is(
    world: World, trouble: Exception
) -> None:
    world.begin(upto=1)
    world.limits = [trouble, trouble, trouble]
    world.take(1)
    await until(lambda: len(world.limits) == 1)
    await quiet()
    assert world.bucket.ended == {}
    await until(lambda: world.done)
    assert world.bucket.writes == 8


async def test_an_attempt_that_a_drain_ends_is_not_counted(world: World) -> None:
    world.begin(upto=1)
    world.take(1, "a", "eve")
    await world.fatal.wait()
    await world.tells.close()
    assert world.bucket.ended == {}


async def test_a_suspect_is_not_tried_while_that_cant_be_counted(world: World) -> None:
    world.begin(upto=1)
    world.bucket.away = True
    world.take(1)
    await quiet()
    assert await world.kit.call("slate", "a", "lines") == []
    world.bucket.away = False
    await until(lambda: world.done)
    assert await world.kit.call("slate", "a", "lines") == [1]


async def test_nothing_is_written_where_nothing_is_suspected(world: World) -> None:
    for line in range(1, 4):
        world.take(line)
    await until(lambda: len(world.done) == 3)
    assert world.bucket.writes == 0


async def test_a_host_applies_its_share_of_the_tells_that_run_at_once(world: World) -> None:
    waiting: list[Callable[[Reply], None]] = []
    world.tells.applier._router = SimpleNamespace(  # type: ignore[assignment]
        is_open=lambda subject: True,
        dispatch=lambda subject, payload, headers, caller, respond, stored: waiting.append(respond),
    )
    suspects = world.backlog.suspects
    world.backlog = _Backlog("slate", 0, Slots(lambda: Peers(CONCURRENCY // 2).share(CONCURRENCY)))
    world.backlog.suspects = suspects
    for line in range(3):
        world.take(line, id=f"{line}")
    await until(lambda: len(waiting) == 2)
    waiting[0](Reply(b""))
    await until(lambda: world.done)
    await until(lambda: len(waiting) == 3)

    assert world.done == ["ack.0"]


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.TELLS.slate_host-1.2.71.35.1800000000500000000.6",
        "$JS.ACK.hub.ABCDE.TELLS.slate_host-1.2.71.35.1800000000500000000.6",
        "$JS.ACK._.ABCDE.TELLS.slate_host-1.2.71.35.1800000000500000000.6.r4nd0m",
    ],
)
def test_the_place_of_a_tell_is_read_from_both_forms_of_its_reply_subject(reply: str) -> None:
    assert read_place(reply) == (71, 35, 1_800_000_000.5)
