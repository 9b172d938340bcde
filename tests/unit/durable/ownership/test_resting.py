"""An unused object keeps only its encoded state in memory, and nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos import heap
from aidevos.contracts.errors import Failure
from aidevos.durable.objects.weight import Weight
from aidevos.durable.ownership import lifecycle
from aidevos.durable.turns.activation import RESTING_SIZE, Activation
from aidevos.durable.turns.environment import Limits
from aidevos.testing import ObjectKit
from tests.support.kits import begun, chosen, examples, failure, until
from tests.support.objects import Tally

REST_AFTER = Limits().rest_after


def activation(kit: ObjectKit, id: str = "a") -> Activation:
    found = kit.catalogue.get("tally", id)
    assert found is not None
    return found


def rests(kit: ObjectKit, id: str = "a") -> bool:
    return activation(kit, id).object._state is None


def look(kit: ObjectKit, after: float) -> None:
    """Look for objects that may rest, as if it were so many seconds later."""
    for _ in kit.catalogue.residents.rest_unused(asyncio.get_running_loop().time() + after):
        pass


async def rested(kit: ObjectKit, id: str = "a") -> None:
    """Let all idle objects rest."""
    await kit.settle()
    kit.catalogue.residents._next_look = 0.0
    look(kit, REST_AFTER)
    assert rests(kit, id)


async def test_an_object_rests_once_it_has_been_unused_for_a_while(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    look(kit, REST_AFTER - 1)
    assert not rests(kit)
    look(kit, 2 * REST_AFTER)
    assert rests(kit)


async def test_an_object_that_is_used_stays_awake_and_is_looked_at_again(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    await kit.call("tally", "b", "add")
    activation(kit).last_used += REST_AFTER
    look(kit, REST_AFTER)
    assert (rests(kit), rests(kit, "b")) == (False, True)
    look(kit, 2 * REST_AFTER)
    assert rests(kit)


async def test_an_object_that_was_roused_rests_again(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    await rested(kit)
    assert await kit.call("tally", "a", "value") == 1
    assert not rests(kit)
    await rested(kit)


async def test_a_sweep_lets_objects_rest() -> None:
    async with ObjectKit(Tally, limits=Limits(rest_after=0.0)) as kit:
        await kit.call("tally", "a", "add")
        await kit.lifecycle.sweep()
        assert rests(kit)


@pytest.mark.parametrize(("freed", "times"), [(5000, 1), (100, 0)])
async def test_sweeps_that_free_much_give_memory_back_but_not_at_short_intervals(
    monkeypatch: pytest.MonkeyPatch, freed: int, times: int
) -> None:
    returns: list[bool] = []
    monkeypatch.setattr(heap, "give_back", lambda: returns.append(True))
    monkeypatch.setattr(lifecycle, "GIVEN_BACK", 4000)
    async with ObjectKit(Tally, limits=Limits(rest_after=0.0)) as kit:
        for id in ("a", "b"):
            await kit.call("tally", id, "grow", bytes=freed)
            await kit.lifecycle.sweep()
            assert len(returns) == times


async def test_what_leaves_memory_during_a_look_is_forgotten(kit: ObjectKit) -> None:
    for id in "ab":
        await kit.call("tally", id, "add")
    looking = kit.catalogue.residents.rest_unused(asyncio.get_running_loop().time() + REST_AFTER)
    next(looking)
    kit.catalogue.discard(activation(kit))
    assert list(looking) == []
    assert rests(kit, "b")


async def test_objects_that_are_awake_are_looked_at_only_now_and_then(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    look(kit, 0.0)
    activation(kit).last_used -= REST_AFTER
    look(kit, REST_AFTER - 1)
    assert not rests(kit)
    look(kit, REST_AFTER)
    assert rests(kit)


@pytest.mark.parametrize("method", ["add", "add_slowly", "value", "everything", "_read"])
async def test_the_next_turn_finds_the_state(kit: ObjectKit, method: str) -> None:
    Tally.gate.set()
    await kit.call("tally", "a", "grow", bytes=3)
    await rested(kit)
    await kit.call("tally", "a", method)
    state = await kit.call("tally", "a", "everything")
    assert state["tags"] == ["xxx"]
    assert state["value"] == method.startswith("add")


@pytest.mark.parametrize("how", ["failure", "bug"])
async def test_a_turn_that_fails_after_a_rest_is_undone(kit: ObjectKit, how: str) -> None:
    await kit.call("tally", "a", "add")
    before = await kit.call("tally", "a", "everything")
    await rested(kit)
    await failure(kit.call("tally", "a", "spoil", how=how))
    assert await kit.call("tally", "a", "everything") == before
    assert kit.events == []


async def test_a_late_call_back_reads_what_a_resting_object_has_committed(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    await rested(kit)
    assert await kit.call("tally", "a", "committed", headers={"Call-Chain": "tally:a"}) == 1
    assert rests(kit)


async def test_an_integer_in_a_field_of_floats_makes_no_commit(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "take_share", share=3)
    stored = dict(kit.store.documents["tally"]["a"])
    await rested(kit)
    await kit.call("tally", "a", "tell_other", id="b", method="add", times=0)
    assert (await kit.call("tally", "a", "everything"))["share"] == 3.0
    await kit.settle()
    assert kit.store.documents["tally"]["a"] == stored


async def test_a_state_that_is_encoded_as_before_is_kept_once(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    await rested(kit)
    await kit.call("tally", "a", "value")
    assert activation(kit).committed.state is activation(kit).snapshot


async def test_the_memory_of_a_state_is_counted_only_while_it_is_decoded(kit: ObjectKit) -> None:
    kit.registry.types["tally"].weight = Weight()
    await kit.call("tally", "a", "grow", bytes=5000)
    awake = kit.catalogue.residents.memory
    await rested(kit)
    assert 5000 < awake - kit.catalogue.residents.memory < 7000
    await kit.call("tally", "a", "value")
    assert kit.catalogue.residents.memory == pytest.approx(awake, rel=0.1)


async def test_a_large_state_stays_decoded(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "grow", bytes=RESTING_SIZE)
    await kit.call("tally", "b", "grow", bytes=RESTING_SIZE // 2)
    await rested(kit, "b")
    assert not rests(kit)


@pytest.mark.parametrize("busy", ["commit", "turn"])
async def test_an_object_in_use_stays_awake(busy: str) -> None:
    async with ObjectKit(Tally) as kit:
        Tally.gate = asyncio.Event()
        if busy == "commit":
            kit.store.faults.append(Tally.gate)
        call = await begun(kit.call("tally", "a", "add" if busy == "commit" else "add_slowly"))
        look(kit, 2 * REST_AFTER)
        assert not rests(kit)
        Tally.gate.set()
        assert await call == 1
        await rested(kit)


async def test_a_hook_sees_the_state_of_a_resting_object(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def on_hibernate(self: Tally) -> None:
        seen.append(self.state.value)

    monkeypatch.setattr(Tally, "on_hibernate", on_hibernate)
    async with ObjectKit(Tally, limits=Limits(idle_after=0.0)) as kit:
        await kit.call("tally", "a", "add")
        await rested(kit)
        await kit.lifecycle.sweep()
        await until(lambda: seen)
        assert seen == [1]


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("add", {"by": 2}),
    ("add_loudly", {}),
    ("grow", {"bytes": 3}),
    ("put", {"key": "k", "value": {"nested": [1, None, 2.5]}}),
    ("nest", {}),
    ("spoil", {"how": "failure"}),
    ("spoil", {"how": "bug"}),
    ("cheat", {}),
    ("remove", {}),
    ("_create", {"state": {"value": 7, "share": 0.5}}),
    ("_replace", {"state": {"tags": ["new"], "share": 0.5}}),
    ("_read", {}),
    ("everything", {}),
    ("tell_other", {"id": "b", "method": "add"}),
    ("call_other", {"id": "b", "method": "value", "by": 1}),
    ("call_round", {"ids": ["b", "a"], "method": "committed"}),
]


@examples(60)
@given(
    calls=st.lists(st.tuples(st.sampled_from(CALLS), st.integers(0, 3), st.booleans()), min_size=1, max_size=12),
)
def test_rests_change_no_answer_and_no_commit(
    calls: Sequence[tuple[tuple[str, dict[str, Any]], int, bool]],
) -> None:
    async def run(*, resting: bool) -> tuple[list[Any], list[Any], dict[str, list[Any]]]:
        answers = []
        async with ObjectKit(Tally, strict=False) as kit:
            for (method, args), request, rest in calls:
                headers = chosen(f"id{request}{method}") if request else {}
                try:
                    answers.append(await kit.call("tally", "a", method, **args, headers=headers))
                except Failure as refused:
                    answers.append(refused.code)
                await kit.settle()
                if resting and rest:
                    kit.catalogue.residents._next_look = 0.0
                    look(kit, REST_AFTER)
            shown = ("version", "turn", "state", "outbox")
            stored = {
                id: [document.get(name) for name in shown] for id, document in kit.store.documents["tally"].items()
            }
            return answers, kit.events, stored

    assert asyncio.run(run(resting=True)) == asyncio.run(run(resting=False))
