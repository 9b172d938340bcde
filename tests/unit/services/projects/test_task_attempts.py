"""A task and its workers: one attempt at a time, one result, and an end for every silent attempt."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import RESULT_LIMIT
from aidevos.durable.base import backoff
from aidevos.security.delegations import DelegatedCall, DelegationVerifier
from aidevos.security.permissions import Principal
from aidevos.security.service_keys import VerificationKeys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import load
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN, SERVICE
from tests.support.kits import chosen, examples, failure
from tests.support.task_kits import LEASE, PROJECT, due, queue, start, task_kit, work

ONCE = {"max_attempts": 1}
TWICE = {"max_attempts": 2, "backoff": 20.0}
pytestmark = pytest.mark.usefixtures("unjittered")


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[ObjectKit]:
    async with task_kit(tmp_path) as kit:
        yield kit


async def read(kit: ObjectKit, id: str) -> Any:
    return await kit.call("task", id, "read")


async def code(refused: Any) -> str:
    return (await failure(refused)).code


def queued(kit: ObjectKit) -> int:
    return sum(subject.endswith(".queued") for subject, *_ in kit.bus.events)


async def test_a_task_is_started_heard_of_and_finished_once(kit: ObjectKit) -> None:
    id = await queue(kit, payload={"a": 1})
    given = await start(kit, id)
    assert (given["payload"], given["attempt"], given["max_attempts"], given["lease"]) == ({"a": 1}, 1, 3, LEASE)
    assert await work(kit, id, "beat", given["run"], progress=0.5) is True
    running = await read(kit, id)
    assert (running["status"], running["progress"], running["attempts"]) == ("running", 0.5, 1)
    await work(kit, id, "finish", given["run"], result={"z": 1, "a": 2})
    ended = await read(kit, id)
    assert (ended["status"], ended["result"], ended["progress"]) == ("succeeded", {"z": 1, "a": 2}, 1.0)
    for method in ("finish", "give_back"):
        assert await code(work(kit, id, method, given["run"])) == "conflict"
    assert await work(kit, id, "beat", given["run"]) is False
    assert await read(kit, id) == ended


async def test_a_task_is_made_before_it_is_queued(kit: ObjectKit) -> None:
    id = await queue(kit)
    await kit.settle()
    names = [subject.rpartition(".")[2] for subject, *_ in kit.bus.events if f".{id}." in subject]
    assert names == ["created", "queued"]


@pytest.mark.parametrize("run_at", ["0001-01-01T00:00:00+23:00", "1900-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
async def test_a_time_that_nobody_means_is_refused(kit: ObjectKit, run_at: str) -> None:
    refused = await failure(queue(kit, run_at=run_at))
    assert (refused.code, refused.field) == ("invalid", "args.run_at")


async def test_of_two_workers_one_starts_a_task(kit: ObjectKit) -> None:
    id = await queue(kit)
    outcomes = await asyncio.gather(start(kit, id), start(kit, id), return_exceptions=True)
    assert sorted(type(outcome) for outcome in outcomes if isinstance(outcome, Failure)) == [Failure]


async def test_what_is_in_line_is_sorted_by_priority_and_then_by_time(kit: ObjectKit) -> None:
    late = await queue(kit)
    kit.clock.advance(1)
    later = await queue(kit)
    high, low = await queue(kit, priority=100), await queue(kit, priority=-100)
    past = await queue(kit, run_at="2020-01-01T00:00:00Z")
    await queue(kit, kind="other", priority=100)
    await queue(kit, run_at="2090-01-01T00:00:00Z", priority=100)
    await kit.settle()
    assert await due(kit) == [high, past, late, later, low]
    await start(kit, high)
    await kit.settle()
    assert (await due(kit))[0] == past


async def test_a_task_waits_until_it_may_run(kit: ObjectKit) -> None:
    id = await queue(kit)
    at = (await read(kit, id))["run_at"]
    later = await queue(kit, run_at=at.replace("Z", "Z"))
    plan = {"patch": {"run_at": "2090-01-01T00:00:00Z"}}
    await kit.call("task", later, "patch", **plan)
    assert await code(start(kit, later)) == "conflict"
    assert await due(kit) == [id]


async def test_a_task_is_due_at_its_time_and_says_so(kit: ObjectKit) -> None:
    id = await queue(kit)
    given = await start(kit, id)
    await work(kit, id, "finish", given["run"], error={"code": "error", "detail": "x"})
    before = queued(kit)
    await kit.advance(0.9)
    assert (await due(kit), queued(kit)) == ([], before)
    await kit.advance(0.2)
    assert (await due(kit), queued(kit)) == ([id], before + 1)


async def test_a_failed_attempt_is_repeated_with_growing_pauses_and_then_the_task_has_failed(kit: ObjectKit) -> None:
    id = await queue(kit, retry={"max_attempts": 3, "backoff": 20.0, "max_backoff": 30.0})
    for attempt, pause in ((1, 20.0), (2, 30.0)):
        given = await start(kit, id)
        assert given["attempt"] == attempt
        await work(kit, id, "finish", given["run"], error={"code": "error", "detail": "no"})
        shown = await read(kit, id)
        assert (shown["status"], shown["error"]["detail"], shown["finished_at"]) == ("queued", "no", None)
        await kit.advance(pause - 0.1)
        assert await code(start(kit, id)) == "conflict"
        await kit.advance(0.2)
    given = await start(kit, id)
    await work(kit, id, "finish", given["run"], error={"code": "error", "detail": "never"})
    ended = await read(kit, id)
    assert (ended["status"], ended["attempts"], ended["error"]["detail"]) == ("failed", 3, "never")


async def test_tasks_that_fail_together_are_repeated_apart(kit: ObjectKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "JITTER", 0.5)
    ids = [await queue(kit, retry=TWICE) for _ in range(8)]
    for id in ids:
        given = await start(kit, id)
        await work(kit, id, "finish", given["run"], error={"code": "error", "detail": "no"})

    again = [datetime.fromisoformat((await read(kit, id))["run_at"]).timestamp() - kit.clock.now() for id in ids]
    assert all(10 - 0.001 <= pause <= 20 for pause in again)
    assert max(again) - min(again) > 0.1
    await kit.advance(20)
    assert sorted(await due(kit)) == sorted(ids)


async def test_a_failure_that_no_repeat_mends_is_final(kit: ObjectKit) -> None:
    id = await queue(kit)
    given = await start(kit, id)
    await work(kit, id, "finish", given["run"], error={"code": "invalid", "detail": "no", "retryable": False})
    assert (await read(kit, id))["status"] == "failed"


async def test_a_worker_that_is_not_heard_of_loses_its_attempt(kit: ObjectKit) -> None:
    id = await queue(kit, retry=TWICE)
    given = await start(kit, id)
    for _ in range(3):
        await kit.advance(LEASE * 0.9)
        assert await work(kit, id, "beat", given["run"]) is True
    await kit.advance(LEASE + 1)
    shown = await read(kit, id)
    assert (shown["status"], shown["error"]["code"], shown["attempts"]) == ("queued", "lost", 1)
    await kit.advance(20)
    again = await start(kit, id)
    assert await work(kit, id, "beat", given["run"]) is False
    assert await code(work(kit, id, "finish", given["run"], result="late")) == "conflict"
    await work(kit, id, "finish", again["run"], result="good")
    assert (await read(kit, id))["result"] == "good"


async def test_after_an_outage_a_worker_has_time_to_be_heard_of(kit: ObjectKit) -> None:
    """During the outage, no worker could report to the task."""
    id = await queue(kit, retry=ONCE)
    given = await start(kit, id)
    kit.clock.advance(LEASE + 60)
    await kit.advance(LEASE - 1)
    assert await work(kit, id, "beat", given["run"]) is True
    await kit.advance(LEASE + 1)
    assert (await read(kit, id))["error"]["code"] == "lost"


async def test_an_attempt_ends_in_time_however_alive_its_worker_is(kit: ObjectKit) -> None:
    id = await queue(kit, timeout=25, retry=ONCE)
    given = await start(kit, id)
    for _ in range(5):
        await kit.advance(4.9)
        assert await work(kit, id, "beat", given["run"]) is True
    await kit.advance(1)
    ended = await read(kit, id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "timeout")
    assert await work(kit, id, "beat", given["run"]) is False


async def test_a_cancelled_task_takes_no_result(kit: ObjectKit) -> None:
    id = await queue(kit)
    given = await start(kit, id)
    assert (await kit.call("task", id, "cancel"))["status"] == "cancelled"
    assert await work(kit, id, "beat", given["run"]) is False
    assert await code(work(kit, id, "finish", given["run"], result=1)) == "conflict"
    await kit.advance(LEASE + 400)
    shown = await read(kit, id)
    assert (shown["status"], shown["result"], shown["error"]) == ("cancelled", None, None)


async def test_one_that_is_queued_again_doesnt_take_the_result_of_before(kit: ObjectKit) -> None:
    id = await queue(kit)
    given = await start(kit, id)
    await kit.call("task", id, "cancel")
    await kit.call("task", id, "retry")
    again = await start(kit, id)
    assert (again["attempt"], given["attempt"]) == (1, 1)
    assert await code(work(kit, id, "finish", given["run"], result="old")) == "conflict"
    await work(kit, id, "finish", again["run"], result="new")
    assert (await read(kit, id))["result"] == "new"


async def test_a_task_that_is_deleted_while_it_runs_stays_deleted(kit: ObjectKit) -> None:
    id = await queue(kit)
    given = await start(kit, id)
    await kit.call("task", id, "delete")
    for method in ("beat", "finish", "give_back", "orders", "message"):
        assert await code(work(kit, id, method, given["run"])) == "not-found"
    assert await code(start(kit, id)) == "not-found"
    await kit.advance(LEASE + 400)
    assert await code(read(kit, id)) == "not-found"
    assert kit.store.documents["task"][id]["deleted"]


async def test_tasks_that_run_go_with_their_project(kit: ObjectKit) -> None:
    id = await queue(kit)
    given = await start(kit, id)
    await kit.call("project", PROJECT, "delete")
    await kit.settle()
    assert await code(work(kit, id, "beat", given["run"])) == "not-found"
    assert await due(kit) == []


async def test_what_is_given_back_is_due_at_once_and_counts_for_nothing(kit: ObjectKit) -> None:
    id = await queue(kit, retry=ONCE)
    for _ in range(3):
        given = await start(kit, id)
        assert given["attempt"] == 1
        await work(kit, id, "give_back", given["run"])
    assert (await due(kit), (await read(kit, id))["status"]) == ([id], "queued")


async def test_results_and_errors_are_bounded(kit: ObjectKit) -> None:
    fitting, large = "x" * (RESULT_LIMIT - 2), "x" * (RESULT_LIMIT - 1)
    payload = {"p": "x" * (256 * 1024 - 8)}
    for result, status in ((fitting, "succeeded"), (large, "failed")):
        id = await queue(kit, payload=payload)
        given = await start(kit, id)
        await work(kit, id, "finish", given["run"], result=result)
        assert (await read(kit, id))["status"] == status
    id = await queue(kit, retry=ONCE)
    given = await start(kit, id)
    await work(kit, id, "finish", given["run"], error={"code": "error", "detail": "x" * 100_000})
    assert len((await read(kit, id))["error"]["detail"]) == 2000


async def test_no_user_is_a_worker(kit: ObjectKit) -> None:
    id = await queue(kit)
    assert await code(kit.call("task", id, "start", worker="w")) == "forbidden"
    given = await start(kit, id)
    for method in ("beat", "finish", "give_back", "orders", "message"):
        assert await code(kit.call("task", id, method, run=given["run"])) == "forbidden"


@pytest.mark.parametrize("run", ["", "x"])
async def test_an_attempt_that_there_never_was_has_no_say(kit: ObjectKit, run: str) -> None:
    id = await queue(kit)
    assert await work(kit, id, "beat", run) is False
    for method in ("finish", "give_back", "orders", "message"):
        assert await code(work(kit, id, method, run)) == "conflict"
    assert (await read(kit, id))["status"] == "queued"


CALL = {"object_id": "counter:c", "method": "increment", "args": {"by": 2}}


async def order_of(kit: ObjectKit, id: str, run: str, after: str = "") -> Any:
    return await work(kit, id, "orders", run, after=after)


def judge(home: Path, order: Any, **changed: str) -> Principal:
    """Return the verified caller of an order, optionally with a changed request."""
    asked = {**order, **changed}
    issuer = load({}, home=home).public_url
    tokens = TokenVerifier(VerificationKeys(home), issuer)
    call = DelegatedCall(asked["subject"], asked["payload"].encode(), asked["request_id"])
    return DelegationVerifier(tokens).verify(asked["authorization"], call)


async def test_a_worker_gets_one_request_and_nothing_else_with_the_makers_rights(
    kit: ObjectKit, tmp_path: Path
) -> None:
    id = await queue(kit, "object.call", CALL)
    (order,) = await order_of(kit, id, (await start(kit, id))["run"])
    assert (order["subject"], order["payload"]) == ("do.counter.c.increment", '{"by":2}')
    assert judge(tmp_path, order).subject == ADMIN.subject
    others = ({"subject": "do.counter.d.increment"}, {"payload": '{"by":3}'}, {"request_id": "r"})
    for changed in others:
        assert (await code(_async(judge, tmp_path, order, **changed))) == "unauthenticated"
    with pytest.raises(Failure):
        TokenVerifier(VerificationKeys(tmp_path), load({}, home=tmp_path).public_url).verify(
            "Bearer " + order["authorization"].split(" ")[1]
        )
    assert jwt.decode(order["authorization"].split(" ")[1], options={"verify_signature": False})["sub"] == ADMIN.subject


async def _async(function: Any, *args: Any, **named: Any) -> Any:
    return function(*args, **named)


async def test_a_request_has_one_id_until_it_is_known_what_came_of_it(kit: ObjectKit) -> None:
    id = await queue(kit, "object.call", CALL, retry={"max_attempts": 100, "backoff": 0.0})
    ids = []
    for error in ({"code": "unavailable", "known": False}, {"code": "internal"}, None):
        given = await start(kit, id)
        (order,) = await order_of(kit, id, given["run"])
        ids.append(order["request_id"])
        if error is None:
            await kit.advance(LEASE + 1)
        else:
            await work(kit, id, "finish", given["run"], error=error)
        await kit.advance(0.1)
    (order,) = await order_of(kit, id, (await start(kit, id))["run"])
    ids.append(order["request_id"])
    assert (ids[0] == ids[1], ids[1] == ids[2], ids[2] == ids[3]) == (True, False, True)
    await kit.call("task", id, "cancel")
    await kit.call("task", id, "retry")
    (order,) = await order_of(kit, id, (await start(kit, id))["run"])
    assert order["request_id"] not in ids


async def test_an_import_is_given_out_in_steps_and_names_its_items_for_good(kit: ObjectKit) -> None:
    items: list[Any] = [{"data": number} for number in range(30)] + [{"id": "named", "data": "x"}]
    id = await queue(kit, "data.import", {"collection": "books", "items": items})
    given = await start(kit, id)
    first, rest = await order_of(kit, id, given["run"]), await order_of(kit, id, given["run"], "25")
    args = [msgspec.json.decode(order["payload"]) for order in (*first, *rest)]
    assert [each["data"] for each in args] == [item["data"] for item in items]
    assert {each["collection"] for each in args} == {"books"}
    assert args[30]["id"] == "named"
    assert len({each["id"] for each in args}) == len({order["request_id"] for order in (*first, *rest)}) == 31
    again = await order_of(kit, id, given["run"])
    assert [order["payload"] for order in again] == [order["payload"] for order in first]


async def test_who_has_no_access_any_more_has_nothing_done(kit: ObjectKit) -> None:
    id = await queue(kit, "object.call", CALL)
    run = (await start(kit, id))["run"]
    await kit.call("user", ADMIN.subject, "become", status="deactivated", caller=SERVICE)
    assert await code(order_of(kit, id, run)) == "forbidden"


async def test_a_kind_of_ones_own_acts_for_nobody(kit: ObjectKit) -> None:
    id = await queue(kit)
    assert await code(order_of(kit, id, (await start(kit, id))["run"])) == "invalid"


async def test_a_webhook_is_signed_with_the_projects_secrets(kit: ObjectKit, monkeypatch: pytest.MonkeyPatch) -> None:
    id = await queue(kit, "webhook", {"url": "https://example.org/", "type": "order.paid", "data": {"n": 1}})
    run = (await start(kit, id))["run"]
    old = (await kit.call("project", PROJECT, "webhook_secret"))["secret"]
    new = (await kit.call("project", PROJECT, "webhook_secret", renew=True))["secret"]
    both = await work(kit, id, "message", run)
    monkeypatch.setattr(Webhook, "_Webhook__verify_timestamp", lambda self, text: _moment(text))
    for secret in (old, new):
        said = Webhook(secret).verify(both["body"], both["headers"])
        assert (said["type"], said["data"]) == ("order.paid", {"n": 1})
    assert (both["url"], both["headers"]["webhook-id"]) == ("https://example.org/", id)
    await kit.advance(86_401)
    given = await kit.call("project", PROJECT, "signing_secrets", caller=SERVICE)
    assert given == [new]
    assert old not in repr(kit.store.documents)
    assert new not in repr(kit.store.documents)


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(float(text), UTC)


STEPS = st.one_of(
    st.tuples(st.just("start"), st.just(0)),
    st.tuples(st.sampled_from(["beat", "succeed", "fail", "refuse", "give_back"]), st.integers(0, 2)),
    st.tuples(st.sampled_from(["cancel", "retry"]), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 4.0, 6.0, 11.0])),
)
MAX_ATTEMPTS, BACKOFF, TIMEOUT = 3, 1.0, 25.0


class Model:
    """The expected behaviour of a task: an attempt under way or the next time to run, and the end."""

    def __init__(self) -> None:
        self.now = 0.0
        self.status = "queued"
        self.attempts = 0
        self.run_at = 0.0
        self.lease = self.end = 0.0
        self.result: Any = None
        self.run = ""

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.status == "running" and min(self.lease, self.end) <= end:
            self.now = min(self.lease, self.end)
            self.fail(retryable=True)
        self.now = end

    def fail(self, *, retryable: bool) -> None:
        self.run = ""
        if retryable and self.attempts < MAX_ATTEMPTS:
            self.status, self.run_at = "queued", self.now + BACKOFF * 2 ** (self.attempts - 1)
        else:
            self.status = "failed"


@examples(60)
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_a_task_does_what_the_model_says(steps: list[tuple[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(follow(Path(home), steps))


async def follow(home: Path, steps: list[tuple[str, float]]) -> None:
    async with task_kit(home) as kit:
        retry = {"max_attempts": MAX_ATTEMPTS, "backoff": BACKOFF}
        id, model, runs = await queue(kit, retry=retry, timeout=TIMEOUT), Model(), [""]
        for number, (step, which) in enumerate(steps):
            if step == "wait":
                model.pass_time(which)
                await kit.advance(which)
            else:
                run = runs[-1 - int(which)] if len(runs) > which else ""
                await act(kit, id, model, runs, step, run, number)
            shown = await read(kit, id)
            assert (shown["status"], shown["attempts"], shown["result"]) == (
                model.status,
                model.attempts,
                model.result,
            ), (steps[: number + 1], shown)


async def act(kit: ObjectKit, id: str, model: Model, runs: list[str], step: str, run: str, number: int) -> None:
    """Apply one step to the task and to the model, and check that both allow or both refuse it."""
    current = bool(run) and run == model.run
    may = {
        "start": model.status == "queued" and model.run_at <= model.now,
        "cancel": model.status in ("queued", "running"),
        "retry": model.status in ("failed", "cancelled"),
    }.get(step, current)
    calls = {
        "succeed": ("finish", {"run": run, "result": number}),
        "fail": ("finish", {"run": run, "error": {"code": "error"}}),
        "refuse": ("finish", {"run": run, "error": {"code": "invalid", "retryable": False}}),
        "start": ("start", {"worker": "w"}),
    }
    method, args = calls.get(step, (step, {} if step in ("cancel", "retry") else {"run": run}))
    caller = ADMIN if step in ("cancel", "retry") else SERVICE
    calling = kit.call("task", id, method, **args, caller=caller, headers=chosen(f"{id}.{number}"))
    if step != "beat" and not may:
        assert await code(calling) == "conflict", step
        return
    answer = await calling
    if step == "beat":
        assert answer is may
    if not may:
        return
    if step == "start":
        model.status, model.run, model.attempts = "running", answer["run"], model.attempts + 1
        model.lease, model.end = model.now + LEASE, model.now + TIMEOUT
        assert answer["run"] not in runs
        runs.append(answer["run"])
    elif step == "beat":
        model.lease = model.now + LEASE
    elif step == "succeed":
        model.status, model.run, model.result = "succeeded", "", number
    elif step in ("fail", "refuse"):
        model.fail(retryable=step == "fail")
    elif step == "give_back":
        model.status, model.run, model.run_at, model.attempts = "queued", "", model.now, model.attempts - 1
    elif step == "cancel":
        model.status, model.run = "cancelled", ""
    else:
        model.status, model.attempts, model.run_at, model.result = "queued", 0, model.now, None
