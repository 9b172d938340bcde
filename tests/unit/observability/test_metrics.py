"""Each metric counts what really happens to the objects of a process."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from aidevos import BaseDurableObject, CloudEvent, on
from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError
from aidevos.durable.delivery import lanes
from aidevos.durable.ownership import commit
from aidevos.durable.turns.environment import Limits
from aidevos.observability.metrics import measuring
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.authentication.service import passwords
from tests.support.alarms import Bell
from tests.support.kits import begun, failure, quiet, until
from tests.support.metrics import Growth, value_of
from tests.support.objects import Changed, Tally, TallyState
from tests.support.task_kits import queue, start, task_kit


@pytest.fixture
def growth() -> Growth:
    return Growth()


class BrokenBus(MemoryBus):
    broken = True

    async def publish(self, *args: Any, **options: Any) -> int:
        if self.broken:
            raise BusError("broken on purpose")
        return await super().publish(*args, **options)


class Echo(BaseDurableObject[TallyState], type="echo"):
    @on("event.tally.*.changed", key=lambda event: str(event.data.value))
    async def note(self, event: CloudEvent[Changed]) -> None:
        if event.data.value == 13:
            raise Failure("conflict", "it fails on purpose")
        self.state.value += 1


async def test_turns_count_by_method_and_outcome(kit: ObjectKit, growth: Growth) -> None:
    await kit.call("tally", "a", "add")
    await kit.call("tally", "a", "value")
    await failure(kit.call("tally", "a", "spoil", how="failure"))
    await failure(kit.call("tally", "a", "spoil", how="bug"))
    Tally.gate = asyncio.Event()
    await failure(kit.call("tally", "a", "add_slowly", headers={"Deadline": "20"}))

    def turns(method: str, outcome: str) -> float:
        return growth.of("aidevos_turn_seconds_count", type="tally", method=method, outcome=outcome)

    outcomes = [("add", "ok"), ("value", "ok"), ("spoil", "refused"), ("spoil", "failed"), ("add_slowly", "stopped")]
    assert [turns(*each) for each in outcomes] == [1] * 5
    assert growth.of("aidevos_turn_seconds_count") == 5
    assert growth.of("aidevos_turn_seconds_sum", method="add_slowly") >= 0.02
    assert growth.of("aidevos_turn_seconds_sum", method="add") < 0.02


async def test_the_wait_in_the_mailbox_is_that_for_the_turns_before(kit: ObjectKit, growth: Growth) -> None:
    await kit.call("tally", "a", "add")
    Tally.gate = asyncio.Event()
    slow = await begun(kit.call("tally", "a", "add_slowly"))
    waiting = await begun(kit.call("tally", "a", "add"))
    await asyncio.sleep(0.03)
    before = growth.of("aidevos_mailbox_wait_seconds_sum", type="tally")
    Tally.gate.set()
    await asyncio.gather(slow, waiting)

    assert before < 0.03 <= growth.of("aidevos_mailbox_wait_seconds_sum", type="tally")
    assert growth.of("aidevos_mailbox_wait_seconds_count", type="tally") == 3


async def test_with_metrics_off_no_turn_is_measured(
    kit: ObjectKit, growth: Growth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "on", False)

    await kit.call("tally", "a", "add")

    assert growth.of("aidevos_turn_seconds_count") == growth.of("aidevos_mailbox_wait_seconds_count") == 0


async def test_commits_count_by_their_outcome_with_their_time_size_and_bytes(
    kit: ObjectKit, growth: Growth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "BACKOFF", Backoff(0.01, 0.01))
    await asyncio.gather(*(kit.call("tally", id, "add") for id in ("a", "b")))
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    slow = await begun(kit.call("tally", "a", "add"))
    await asyncio.sleep(0.05)
    gate.set()
    await slow
    kit.store.faults.append("lose")
    await kit.call("tally", "a", "add")
    await kit.settle()
    kit.store.documents["tally"]["b"]["owner"] = "another"
    await failure(kit.call("tally", "b", "add"))
    await kit.call("tally", "c", "found", value=1)
    await kit.settle()
    kit.catalogue.drop_all()
    await failure(kit.call("tally", "c", "found", value=1))

    def commits(outcome: str) -> float:
        return growth.of("aidevos_commits_total", type="tally", outcome=outcome)

    assert [commits(outcome) for outcome in ("unknown", "fenced", "exists", "failed")] == [1, 1, 1, 0]
    assert commits("written") >= 4
    assert growth.of("aidevos_commit_seconds_sum") >= 0.03
    assert growth.of("aidevos_commit_seconds_count") == growth.of("aidevos_commit_batch_size_count")
    assert growth.of("aidevos_commit_batch_size_sum") == growth.of("aidevos_commits_total")
    assert growth.of("aidevos_commit_bytes_sum") >= 1024 * growth.of("aidevos_commits_total")


async def test_objects_count_while_they_are_in_memory() -> None:
    growth, limits = Growth(), Limits(idle_after=0.0)
    async with ObjectKit(Tally, limits=limits) as kit:
        for id in ("a", "b"):
            await kit.call("tally", id, "add")
        loaded = growth.of("aidevos_active_objects", type="tally"), growth.of("aidevos_active_bytes", type="tally")
        await asyncio.sleep(0.01)
        await kit.lifecycle.sweep()
        left = growth.of("aidevos_active_objects", type="tally"), growth.of("aidevos_active_bytes", type="tally")

    assert loaded[0] == 2
    assert loaded[1] > 2 * 3000
    assert left == (0, 0)
    assert growth.of("aidevos_activations_total", type="tally") == 2
    assert growth.of("aidevos_hibernations_total", type="tally") == 2


async def test_what_waits_in_outboxes_counts_with_its_age_and_each_attempt_to_publish_counts(
    growth: Growth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BACKOFF", Backoff(0.01, 0.01))
    async with ObjectKit(Tally, bus=BrokenBus()) as kit:
        await kit.call("tally", "a", "add_loudly")
        await kit.call("tally", "b", "add_loudly")
        kit.clock.advance(60)
        await kit.call("tally", "b", "add_loudly")
        await until(lambda: growth.of("aidevos_events_total", outcome="failed") >= 2)
        entries = growth.of("aidevos_outbox_entries", type="tally")
        oldest = value_of("aidevos_outbox_oldest_seconds", type="tally")
        kit.bus.broken = False  # type: ignore[attr-defined]
        await kit.settle()
        settled = growth.of("aidevos_outbox_entries", type="tally")

    assert (entries, oldest, settled) == (3, 60, 0)
    assert growth.of("aidevos_events_total", outcome="published") == 3
    assert growth.of("aidevos_event_lag_seconds_sum") == 120


async def test_reactions_count_by_their_outcome(growth: Growth) -> None:
    async with ObjectKit(Tally, Echo) as kit:
        await kit.call("tally", "a", "add_loudly", by=3)
        await kit.call("tally", "b", "add_loudly", by=13)
        await kit.settle()

    found = [
        growth.of("aidevos_reactions_total", type="echo", method="note", outcome=each) for each in ("done", "failed")
    ]
    assert found == [1, 1]
    assert growth.of("aidevos_dead_letters_total", kind="event") == len(kit.letters) == 1


async def test_tells_count_by_their_outcome_and_lag(growth: Growth) -> None:
    async with ObjectKit(Tally) as kit:
        await kit.call("tally", "a", "tell_other", id="b", method="add")
        await kit.settle()
        await kit.call("tally", "a", "tell_other", id="b", method="spoil")
        await kit.settle()
        await kit.call("tally", "a", "tell_other", id="c", method="no_such")
        await until(lambda: growth.of("aidevos_tells_total", method="unknown"))

    assert growth.of("aidevos_tells_total", type="tally", method="add", outcome="done") == 1
    assert growth.of("aidevos_tells_total", type="tally", method="spoil", outcome="buried") == 1
    assert growth.of("aidevos_tells_total", type="unknown", method="unknown", outcome="failed") >= 1
    assert growth.of("aidevos_tells_total", method="no_such") == 0
    assert growth.of("aidevos_tell_lag_seconds_count") == 1
    assert growth.of("aidevos_dead_letters_total", kind="tell") == 1


async def test_alarms_count_by_their_outcome() -> None:
    growth = Growth()
    async with ObjectKit(Bell) as kit:
        await kit.call("bell", "a", "set", name="good", args={"in_": 5})
        await kit.advance(6)
        bad = {"name": "bad", "args": {"in_": 5, "payload": {"fails": 9}}, "retry": {"max_attempts": 2, "backoff": 1.0}}
        await kit.call("bell", "a", "set", **bad)
        await kit.advance(30)
        await kit.settle()

    def alarms(outcome: str) -> float:
        return growth.of("aidevos_alarms_total", outcome=outcome)

    assert [alarms(each) for each in ("fired", "failed", "buried")] == [1, 2, 1]
    assert growth.of("aidevos_alarm_lateness_seconds_count") == 3
    assert growth.of("aidevos_dead_letters_total", kind="alarm") == 1


async def test_searches_count_by_type_and_name(kit: ObjectKit, growth: Growth) -> None:
    await kit.query("tally", "list")

    assert growth.of("aidevos_search_seconds_count", type="tally", name="list") == 1


async def test_a_full_mailbox_counts_as_a_refusal(growth: Growth) -> None:
    async with ObjectKit(Tally, limits=Limits(mailbox=1)) as kit:
        await kit.call("tally", "a", "add")
        Tally.gate = asyncio.Event()
        calls = [await begun(kit.call("tally", "a", "add_slowly")) for _ in range(3)]
        await quiet()
        Tally.gate.set()
        await asyncio.gather(*calls, return_exceptions=True)

    assert growth.of("aidevos_refused_requests_total", limit="mailbox") == 1


async def test_the_tasks_that_wait_are_counted_whatever_their_kind(tmp_path: Path) -> None:
    async with task_kit(tmp_path) as kit:
        first = await queue(kit, "report")
        for kind in ("report", "mail"):
            await queue(kit, kind)
        await queue(kit, "report", run_at="2099-01-01T00:00:00Z")
        await start(kit, first)
        await kit.settle()

        assert await kit.query("task", "count_due", caller=SERVICE) == 2


async def test_passwords_count_while_they_are_hashed_and_when_they_are_refused(growth: Growth) -> None:
    settings = Settings(password_threads=1, password_queue=0)
    async with passwords.open({"settings": settings}) as found:
        hashing = await begun(found.hash("a long password"))
        pending = value_of("aidevos_hashing_queue")
        refused = await failure(found.hash("another password"))
        await hashing

    assert (pending, refused.code) == (1, "overloaded")
    assert growth.of("aidevos_refused_requests_total", limit="hashing") == 1


def test_the_labels_of_every_metric_are_known_to_be_bounded() -> None:
    """A new label needs a thought: its values are names in code or configuration, and never IDs."""
    bounded = {
        "type", "method", "outcome", "name", "route", "status", "door", "code", "kind", "limit", "task", "service",
        "replica", "version", "le", "implementation", "major", "minor", "patchlevel", "generation",
    }  # fmt: skip
    for family in REGISTRY.collect():
        for sample in family.samples:
            if not re.match("app_|test_", family.name):
                assert sample.labels.keys() <= bounded, sample
