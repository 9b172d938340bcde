"""A host's garbage collections stay short however many objects it keeps."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from aidevos.process import collector


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def collecting_in_slices() -> Iterator[None]:
    thresholds = gc.get_threshold()
    collector.collect_in_slices()
    yield
    gc.callbacks.remove(collector._freeze_survivors)
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_survives_is_not_scanned_again() -> None:
    sizes: list[int] = []

    def measure(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            sizes.append(sum(gc.get_count()[:1]) + len(gc.get_objects(1)) + len(gc.get_objects(2)))

    gc.callbacks.append(measure)
    kept = [[number] for number in range(200_000)]
    gc.callbacks.remove(measure)
    assert len(sizes) > 10
    assert max(sizes) < 40_000
    assert gc.get_freeze_count() > 150_000
    assert len(kept) == 200_000


def test_young_cycles_are_freed() -> None:
    dead = weakref.ref(Cycle())
    gc.collect(1)
    assert dead() is None


@pytest.mark.parametrize("grown", [1.0, 1.1])
async def test_old_cycles_are_freed_while_there_are_few_objects_but_more_than_at_the_start(
    monkeypatch: pytest.MonkeyPatch, grown: float
) -> None:
    monkeypatch.setattr(collector, "GROWN", grown)
    old = Cycle()
    dead = weakref.ref(old)
    gc.collect(1)
    del old
    gc.collect(1)
    assert dead() is not None
    monkeypatch.setattr(collector, "FULL_EVERY", 0.0)

    async def sleep(seconds: float) -> None:
        if len(counts) == 2:
            raise StopAsyncIteration

    counts: list[int] = []
    monkeypatch.setattr(collector.asyncio, "sleep", sleep)

    def count() -> int:
        counts.append(1)
        assert dead() is not None
        return collector.FULL_AT_MOST + 1 if len(counts) == 1 else 0

    with pytest.raises(StopAsyncIteration):
        await collector.keep_collecting(count)
    assert (dead() is None) == (grown == 1.0)
