"""One turn: a method runs on the state, and either everything it did counts or nothing.

Promise: a command that raises leaves no trace in the state, sends nothing, and its error is the
recorded outcome. A query that changed the state is a bug: the change is undone and the caller gets
`internal`. What a turn has sent and changed becomes visible with its commit, never before.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

from aidevos.contracts import envelope, subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM, EXPIRE, DurableObject
from aidevos.durable.activation import Activation, Pending
from aidevos.durable.alarms import EXPIRY, Scheduled, check_room, expiry
from aidevos.durable.clock import timestamp
from aidevos.durable.completion import Record, check_same
from aidevos.durable.object import BaseDurableObject
from aidevos.durable.outbox import Entry, event_entry, letter_entry, tell_entry
from aidevos.durable.request import Answer, Request, check_if_match, digest
from aidevos.durable.running import running
from aidevos.durable.store import codec
from aidevos.durable.store.port import StoreError
from aidevos.observability.metrics import ALARM_LATENESS, ALARMS

if TYPE_CHECKING:
    from aidevos.durable.object import Event
    from aidevos.durable.router import DurableObjectRouter

log = logging.getLogger(__name__)


class Turn:
    """What a running method can reach through its object."""

    def __init__(self, router: DurableObjectRouter, activation: Activation, request: Request) -> None:
        self.request = request
        self.now = router.clock.now()
        self.entries: list[Entry] = []
        self.alarms: dict[str, Scheduled | None] = {}
        # The alarm that this turn is about, until it has an outcome.
        self.ringing: Scheduled | None = None
        self.alarm_key = ""
        # Whether an earlier attempt may have ended its process.
        self.counts_first = False
        self.deleted = False
        self.shows_object = False
        self.joins: str | None = None
        self.open = True
        self._router = router
        self._activation = activation
        self._calls = 0
        self._id = ""
        self._last_number = activation.outbox_last

    @property
    def id(self) -> str:
        if not self._id:
            key = self.request.key
            seed = key.key if key else self.request.fleeting or self.alarm_key or secrets.token_hex(16)
            self._id = digest(self._activation.object_id, seed)
        return self._id

    @property
    def version(self) -> int:
        return self._activation.version

    @property
    def exists(self) -> bool:
        return self._activation.exists

    @property
    def project(self) -> str | None:
        return self._activation.project

    def join(self, project: str) -> None:
        """Have the object that this turn makes belong to a project."""
        self.joins = project

    def view(self) -> DurableObject:
        """Answer with the object as it is after this turn; return what this returns."""
        self.shows_object = True
        return cast(DurableObject, None)

    def convert_state(self, state: dict[str, Any]) -> msgspec.Struct:
        return self._activation.type.convert_state(state)

    def emit(self, event: Event) -> None:
        self._only_in_command("emit")
        activation = self._activation
        project = activation.project or self.joins
        self.entries.append(event_entry(activation.type.name, activation.id, self._number(), event, self.now, project))

    def tell(self, type: str, id: str, method: str, args: Mapping[str, Any]) -> None:
        self._only_in_command("tell")
        subjects.split_object_id(f"{type}:{id}")
        self.entries.append(tell_entry(self._number(), type, id, method, args, self.now))

    def set_alarm(self, name: str, alarm: Scheduled) -> None:
        """Set an alarm with this turn's commit; raises `too-large` past the bounds of an object."""
        self._only_in_command("set alarms")
        cls = self._activation.type.cls
        if cls.on_alarm is BaseDurableObject.on_alarm:
            raise RuntimeError(f"{cls.__name__} has no on_alarm")
        others = (self.alarm(other) for other in self.alarm_names() if other not in (name, EXPIRY))
        check_room([alarm, *filter(None, others)], self._router.limits.alarms)
        self.alarms[name] = alarm

    def cancel_alarm(self, name: str) -> bool:
        there = self.alarm(name) is not None
        if there:
            self.alarms[name] = None
        return there

    def alarm(self, name: str) -> Scheduled | None:
        """An alarm as this turn will leave it."""
        self._only_in_command("look at alarms")
        if name in self.alarms:
            return self.alarms[name]
        if self.ringing is not None and name == self.request.alarm:
            return self.ringing.next()
        return self._activation.alarms.get(name)

    def alarm_names(self) -> Iterable[str]:
        return [name for name in {**self._activation.alarms, **self.alarms} if self.alarm(name) is not None]

    async def call(self, type: str, id: str, method: str, args: Mapping[str, Any]) -> Any:
        """A request now: after the commits of all earlier turns, with an ID that a repeat of this turn would
        use again for the same arguments. A repeat may find another state, and so ask for something else."""
        subjects.split_object_id(f"{type}:{id}")
        self._calls += 1
        payload = msgspec.json.encode(args)
        request_id = digest(self.id, str(self._calls), hashlib.sha256(payload).hexdigest())
        subject = subjects.call(type, id, method)
        headers = self._headers() | {envelope.CLIENT_ADDRESS: self.request.address}
        return await self._ask(subject, payload, request_id=request_id, headers=headers)

    async def forward(
        self, subject: str, payload: bytes, *, request_id: str, content_type: str, authorization: str | None
    ) -> bytes:
        """A request as it stands: after the commits of all earlier turns."""
        headers = self._headers() | {envelope.CONTENT_TYPE: content_type}
        return await self._send(subject, payload, request_id=request_id, headers=headers, authorization=authorization)

    async def ask(self, type: str, view: str, args: Mapping[str, Any]) -> Any:
        """A question about committed states, those of all earlier turns among them."""
        return await self._ask(subjects.query(type, view), msgspec.json.encode(args))

    def _headers(self) -> dict[str, str]:
        return {envelope.CALL_CHAIN: ",".join((*self.request.chain, self._activation.object_id))}

    async def _ask(self, subject: str, payload: bytes, **options: Any) -> Any:
        reply = await self._send(subject, payload, **options)
        return msgspec.json.decode(reply) if reply else None

    async def _send(self, subject: str, payload: bytes, **options: Any) -> bytes:
        earlier = self._activation.wait_committed()
        if earlier is not None:
            await earlier
        if self._activation.broken or not self._router.lease_valid():
            raise moved_on()
        left = self.request.deadline - asyncio.get_running_loop().time()
        return await self._router.outside.request(subject, payload, deadline=max(left, 0.001), **options)

    def delete(self) -> None:
        """Mark the object as deleted by this turn."""
        self._only_in_command("delete")
        self.deleted = True

    async def checkpoint(self, *, keeps_version: bool) -> None:
        """Commit what the turn has done so far; return when it is durable."""
        self._only_in_command("checkpoint")
        activation = self._activation
        encoded = activation.type.encode_state(activation.object.state)
        activation.type.check_state(encoded)
        self._router.check_bounds(activation, encoded, self.entries)
        changed = encoded != activation.snapshot or not activation.exists
        if changed:
            _advance(self, activation, encoded, keeps_version)
        if changed or self.entries or self.alarms:
            _gather(self, activation, changed).urgent = True
            self._router.commit(activation)
        committed = activation.wait_committed()
        if committed is not None:
            await committed
        if activation.broken or not self._router.lease_valid():
            raise moved_on()

    async def forget_outcomes(self) -> None:
        """Blank the records in memory, and so with the next commit in the document; then those in the
        archive, where no other can follow but blank ones."""
        self._only_in_command("forget_outcomes")
        activation = self._activation
        activation.records.forget()
        activation.fleeting.clear()
        if activation.moving:
            raise Failure("unavailable", "records are on their way to the archive")
        try:
            await self._router.store.forget(activation.type.name, activation.id)
        except StoreError as error:
            raise Failure("unavailable", str(error)) from error

    def _number(self) -> int:
        self._last_number = self._router.outbox_number(self._last_number)
        return self._last_number

    def _only_in_command(self, what: str) -> None:
        if not self.request.method.is_command:
            raise RuntimeError(f"a query can't {what}")


def start_turn(router: DurableObjectRouter, activation: Activation, request: Request) -> asyncio.Task[None] | None:
    """Run a request's turn, at once if its method can't wait, else in the task that is returned."""
    loop = asyncio.get_running_loop()
    activation.last_used = loop.time()
    if request.deadline <= loop.time():
        request.fail(Failure("deadline-exceeded", "the deadline passed while the request was waiting"))
        return None
    try:
        if request.method.is_command and _answered(router, activation, request):
            return None
    except Failure as refused:
        answer_when_committed(router, activation, request, Answer.of(refused))
        return None
    turn = Turn(router, activation, request)
    if request.alarm and not _begin_alarm(turn, activation, request):
        return None
    try:
        if request.method.matches:
            check_if_match(request.if_match, activation.exists, activation.version)
        if request.method.name in (ALARM, EXPIRE) and not activation.exists:
            raise Failure("not-found", f"there is no object {activation.object_id}")
    except Failure as failure:
        _end(turn, activation, None, failure)
        return None
    if request.method.inline and not turn.counts_first:
        _run_inline(turn, activation, request)
        return None
    return loop.create_task(_run(turn, activation, request))


def _begin_alarm(turn: Turn, activation: Activation, request: Request) -> bool:
    """Whether an alarm that was due is so still, and is to ring by its policy."""
    scheduled = activation.due_alarm(request.alarm, turn.now)
    if scheduled is None:
        request.drop()
        return False
    if scheduled.spent:
        turn.alarms[request.alarm] = _bury_alarm(turn, activation, scheduled, _no_outcome())
        _commit_alarm(turn, activation, Answer(b"null"))
        return False
    planned = scheduled.planned(turn.now)
    if planned is None:
        ALARMS.labels("skipped").inc()
        turn.alarms[request.alarm] = scheduled.skipped(turn.now)
        _commit_alarm(turn, activation, Answer(b"null"))
        return False
    ALARM_LATENESS.observe(max(0.0, turn.now - scheduled.at))
    turn.ringing = planned
    turn.counts_first = scheduled.failed > 0 or scheduled.at < activation.begun_at
    turn.alarm_key = planned.attempt_key
    request.args = {"alarm": planned.shown(request.alarm)} if request.method.name == ALARM else {}
    request.deadline = asyncio.get_running_loop().time() + turn._router.limits.alarm_deadline
    return True


def _answered(router: DurableObjectRouter, activation: Activation, request: Request) -> bool:
    """Whether an earlier copy's outcome was found, and is the answer."""
    if request.fleeting:
        record = check_same(activation.fleeting.get(request.fleeting), request.fingerprint)
        if record is not None:
            answer_when_committed(router, activation, request, record.answer)
        return record is not None
    if request.key is None:
        return False
    now = router.clock.now()
    record = activation.records.find(request.key, request.fingerprint, now)
    record = record or check_same(request.archived, request.fingerprint)
    if record is None:
        activation.records.admit(request.key, now)
        return False
    answer_when_committed(router, activation, request, record.answer)
    return True


def answer_when_committed(
    router: DurableObjectRouter, activation: Activation, request: Request, answer: Answer
) -> None:
    """Answer with what this activation's memory shows: after the commits that it shows, and only
    while the host holds its lease."""
    pending = activation.uncommitted()
    if pending is None and activation.founding:
        pending = activation.open_pending()
        pending.urgent = True
        router.commit(activation)
    if pending is not None:
        pending.readers.append((request, answer))
    else:
        request.respond(answer if router.lease_valid() else None)


def _run_inline(turn: Turn, activation: Activation, request: Request) -> None:
    token = running.set(turn)
    try:
        request.method.function(activation.object, **request.args).send(None)
    except StopIteration as stop:
        _end(turn, activation, stop.value, None)
    except BaseException as error:
        _end(turn, activation, None, error)
    finally:
        running.reset(token)


async def _run(turn: Turn, activation: Activation, request: Request) -> None:
    running.set(turn)
    result: Any = None
    error: BaseException | None = None
    try:
        async with asyncio.timeout_at(request.deadline) as limit:
            if turn.counts_first:
                await _count_attempt(turn, activation)
            result = await request.method.function(activation.object, **request.args)
    except TimeoutError as raised:
        passed = Failure("deadline-exceeded", "the deadline passed while the method was running")
        error = passed if limit.expired() else raised
    except BaseException as raised:
        error = raised
    if _is_cancelled(error):
        _undo(activation)
        request.fail(moved_on())
        raise asyncio.CancelledError
    _end(turn, activation, result, error)


def _is_cancelled(error: BaseException | None) -> bool:
    """Whether the turn itself was cancelled, and not something that it had waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def moved_on() -> Failure:
    return Failure("unavailable", "the object was moved while the method was running")


def _end(turn: Turn, activation: Activation, result: Any, error: BaseException | None) -> None:
    """Account for what the method did, and see to its answer."""
    router, request = turn._router, turn.request
    turn.open = False
    if activation.broken:
        request.fail(moved_on())
        return
    try:
        if error is None:
            answer = _succeed(turn, activation, result)
        else:
            _undo(activation)
            answer = Answer.of(_failure(error, activation, request))
    except Exception as raised:
        _undo(activation)
        error = raised
        answer = Answer.of(_failure(raised, activation, request))
    if request.fleeting and not (error and _passing(error)):
        record = Record(request.fingerprint, answer.payload, answer.failed, turn.now, tell=False)
        activation.remember(request.fleeting, record)
    if error is not None and request.alarm:
        _fail_alarm(turn, activation, answer)
    elif error is not None and request.method.is_command:
        _record(turn, activation, answer, durable=not _passing(error))
    elif not request.method.is_command:
        answer_when_committed(router, activation, request, answer)


def _succeed(turn: Turn, activation: Activation, result: Any) -> Answer:
    request, object_ = turn.request, activation.object
    encoded = activation.type.encode_state(object_.state)
    if not request.method.is_command:
        if encoded != activation.snapshot:
            raise RuntimeError(f"the query {request.method.name} changed the state")
        return _answer(turn, activation, result)
    router = turn._router
    if encoded != activation.snapshot:
        activation.type.check_state(encoded)
    router.check_bounds(activation, encoded, turn.entries)
    changed = encoded != activation.snapshot or not activation.exists or turn.deleted
    before = (activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at)
    project = activation.project
    if changed:
        _advance(turn, activation, encoded, request.method.keeps_version)
    try:
        answer = _answer(turn, activation, result)
    except BaseException:
        activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at = before
        activation.project = project
        raise
    _commit(turn, activation, answer, changed)
    return answer


def _answer(turn: Turn, activation: Activation, result: Any) -> Answer:
    payload = _encode(activation.view() if turn.shows_object else result, turn.request)
    if len(payload) > turn._router.limits.answer:
        raise RuntimeError(f"the result has more than {turn._router.limits.answer} bytes")
    return Answer(payload)


def _advance(turn: Turn, activation: Activation, encoded: bytes, keeps_version: bool) -> None:
    moment: datetime = timestamp(turn.now)
    if turn.deleted or not (keeps_version and activation.exists):
        activation.version += 1
        activation.updated_at = moment
    if turn.deleted:
        activation.exists, activation.project = False, None
        activation.object.state = activation.type.default_state()
        activation.snapshot = codec.encode(activation.object.state)
        return
    if not activation.exists:
        activation.exists, activation.project = True, turn.joins
        activation.made_at = moment
    activation.snapshot = encoded


def _commit(turn: Turn, activation: Activation, answer: Answer, changed: bool) -> None:
    router, request = turn._router, turn.request
    if turn.ringing is not None:
        ALARMS.labels("fired").inc()
        turn.alarms.setdefault(request.alarm, turn.ringing.next())
    if not (changed or turn.entries or turn.alarms or request.key):
        answer_when_committed(router, activation, request, answer)
        return
    _gather(turn, activation, changed)
    _record(turn, activation, answer, durable=True)


async def _count_attempt(turn: Turn, activation: Activation) -> None:
    """Commit that an attempt has failed, before it begins; what comes of it takes the place of that."""
    ringing, turn.counts_first = turn.ringing, False
    assert ringing is not None  # noqa: S101
    turn.alarms[turn.request.alarm] = ringing.begun(turn.now)
    _gather(turn, activation, changed=False).urgent = True
    turn.ringing = ringing
    turn._router.commit(activation)
    committed = activation.wait_committed()
    if committed is not None:
        await committed


def _fail_alarm(turn: Turn, activation: Activation, answer: Answer) -> None:
    """Count an attempt that has failed; after the last one the alarm is a dead letter."""
    turn.entries, turn.alarms = [], {}
    failure, name = Failure.decode(answer.payload), turn.request.alarm
    if turn.ringing is not None:
        ALARMS.labels("failed").inc()
        again = turn.ringing.after_failure(turn.now)
        log.warning("%s: the alarm %s failed: %s", activation.object_id, name, failure.detail)
        turn.alarms[name] = _bury_alarm(turn, activation, again, failure) if again.spent else again
    _commit_alarm(turn, activation, answer)


def _bury_alarm(turn: Turn, activation: Activation, spent: Scheduled, failure: Failure) -> Scheduled | None:
    """What is left of an alarm that has no attempt any more; all of it while there is no room for its letter."""
    letter = letter_entry(turn._number(), _letter(turn, activation, spent, failure))
    try:
        turn._router.check_bounds(activation, b"", [letter])
    except Failure:
        return spent.later(turn.now, spent.failed)
    turn.entries.append(letter)
    return spent.next()


def _letter(turn: Turn, activation: Activation, spent: Scheduled, failure: Failure) -> Letter:
    request = turn.request
    args = {"alarm": spent.shown(request.alarm)} if request.method.name == ALARM else {}
    return Letter(
        id=letter_id(activation.object_id, spent.key, str(spent.due)),
        kind="alarm",
        source=activation.object_id,
        subject=subjects.call(activation.type.name, activation.id, request.method.name),
        payload=msgspec.json.encode(args),
        code=failure.code,
        detail=failure.detail,
        attempts=spent.failed,
        at=turn.now,
    )


def _no_outcome() -> Failure:
    return Failure("internal", "the last attempt has left no outcome: its process may have ended")


def _commit_alarm(turn: Turn, activation: Activation, answer: Answer) -> None:
    """Commit what has become of an alarm that had no turn, or one that was undone."""
    _gather(turn, activation, changed=False).urgent = True
    activation.open_pending().waiters.append((turn.request, answer))
    turn._router.commit(activation)


def _gather(turn: Turn, activation: Activation, changed: bool) -> Pending:
    """Put what the turn has changed and sent into the pending commit."""
    pending = activation.open_pending()
    pending.state_changed = pending.state_changed or changed
    for entry in turn.entries:
        document = entry.to_document()
        activation.outbox[entry.number] = document
        activation.outbox_size += len(entry.payload)
        activation.outbox_last = entry.number
        pending.changes.put(f"outbox.{entry.number}", document)
        pending.entries.append(entry.number)
    turn.entries = []
    _gather_alarms(turn, activation, pending, changed)
    return pending


def _gather_alarms(turn: Turn, activation: Activation, pending: Pending, changed: bool) -> None:
    after = activation.type.cls.expires_after
    if turn.deleted:
        turn.alarms = dict.fromkeys(activation.alarms)
    elif changed and after is not None:
        turn.alarms[EXPIRY] = expiry(turn.now, after)
    if turn.request.alarm in turn.alarms:
        turn.ringing = None
    for name, alarm in turn.alarms.items():
        pending.alarms.add(name)
        if alarm is None:
            activation.alarms.pop(name, None)
            pending.changes.drop(f"alarms.{name}")
        else:
            activation.alarms[name] = alarm
            pending.changes.put(f"alarms.{name}", alarm.to_document())
    turn.alarms = {}


def _record(turn: Turn, activation: Activation, answer: Answer, *, durable: bool) -> None:
    """Put a command's outcome into the pending commit, where it has a request ID, and answer then."""
    router, request = turn._router, turn.request
    if request.key is not None and durable:
        record = Record(request.fingerprint, answer.payload, answer.failed, turn.now, request.key.tell)
        activation.records.add(request.key, record)
    elif answer.failed:
        answer_when_committed(router, activation, request, answer)
        return
    pending = activation.open_pending()
    pending.urgent = True
    pending.waiters.append((request, answer))
    router.commit(activation)


def _undo(activation: Activation) -> None:
    """Put the state back to what it was before the turn."""
    activation.restore(activation.snapshot)


def _passing(error: BaseException) -> bool:
    """Whether a repeat may end otherwise, so that the outcome must not be recorded."""
    return isinstance(error, Failure) and (error.retryable or error.code == "deadline-exceeded")


def _failure(error: BaseException, activation: Activation, request: Request) -> Failure:
    if isinstance(error, Failure):
        return error
    return unexpected(error, f"{activation.object_id}.{request.method.name}")


def unexpected(error: BaseException, where: str) -> Failure:
    """What a caller gets for a bug: nothing but an ID that finds the log line."""
    error_id = secrets.token_hex(8)
    log.error("%s raised (error %s)", where, error_id, exc_info=error, extra={"error_id": error_id})
    return Failure("internal", "the request failed on our side; the log has the details", error_id=error_id)


def _encode(result: Any, request: Request) -> bytes:
    if request.content_type == envelope.MSGPACK:
        return msgspec.msgpack.encode(result)
    return msgspec.json.encode(result)
