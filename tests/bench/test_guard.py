"""The guard fails when a hot path becomes slower, and never passes without having counted every path."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bench.guard import __main__ as guard
from tests.bench.guard import counts, figures, paths
from tests.bench.guard.figures import TOLERANCE, Figures, judge

COUNTED = {"read": 50.0, "write": 200.0}
FOLDER = Path("unused")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Figures:
    """Return figures of this platform, which replace the recorded ones."""
    monkeypatch.setattr(figures, "FILE", tmp_path / "figures.json")
    monkeypatch.setattr(sys, "argv", ["guard"])
    monkeypatch.setattr(guard, "provide", lambda needs: None)
    found = Figures(counts.platform_key(), dict(COUNTED))
    figures.write(found)
    return found


@pytest.mark.parametrize(
    ("cost", "failed"), [(1 + TOLERANCE - 0.01, False), (1 + TOLERANCE + 0.01, True), (0.5, False)]
)
def test_a_path_may_become_faster_but_not_slower_than_the_tolerance(cost: float, failed: bool) -> None:
    verdict = judge(COUNTED, {"read": 50.0, "write": 200.0 * cost})

    assert verdict.failed is failed
    assert ("SLOWER" in verdict.lines[1]) is failed
    assert verdict.lines[0].endswith("as recorded")


@pytest.mark.parametrize("counted", [{"read": 50.0}, {**COUNTED, "erase": 1.0}, {}])
def test_a_path_without_a_figure_and_a_figure_without_a_path_fail(counted: dict[str, float]) -> None:
    assert judge(COUNTED, counted).failed


@pytest.mark.parametrize(("cost", "status"), [(1.0, 0), (1.5, 1)])
def test_the_command_fails_if_a_path_has_become_slower(
    monkeypatch: pytest.MonkeyPatch, recorded: Figures, cost: float, status: int
) -> None:
    monkeypatch.setattr(counts, "count", lambda: {name: cost * each for name, each in COUNTED.items()})

    assert guard.main() == status


def test_on_another_platform_one_line_says_that_nothing_is_compared(
    monkeypatch: pytest.MonkeyPatch, recorded: Figures, capsys: pytest.CaptureFixture[str]
) -> None:
    figures.write(Figures("another machine", {"read": 1.0}))

    assert guard.main() == 0

    assert capsys.readouterr().out.startswith(
        "Nothing to compare: the figures are those of another machine, and this is"
    )


def test_renewed_figures_are_those_of_this_platform(monkeypatch: pytest.MonkeyPatch, recorded: Figures) -> None:
    figures.write(Figures("another machine", {}))
    monkeypatch.setattr(sys, "argv", ["guard", "--renew"])
    monkeypatch.setattr(counts, "count", lambda: COUNTED)

    assert guard.main() == 0
    assert figures.read() == recorded


@pytest.mark.parametrize("dumps", [len(paths.PATHS) - 1, len(paths.PATHS) + 1])
def test_a_wrong_number_of_counted_paths_is_an_error(
    monkeypatch: pytest.MonkeyPatch, recorded: Figures, capsys: pytest.CaptureFixture[str], dumps: int
) -> None:
    monkeypatch.setattr(counts, "_run", lambda folder: [1000] * dumps)

    assert guard.main() == 2

    assert f"has counted {dumps} paths" in capsys.readouterr().err


def test_totals_are_read_in_the_order_of_the_dumps(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        (tmp_path / f"out.{number}").write_text(f"part: {number}\nsummary: {number}00\n1 2\ntotals: {number}00\n")
    (tmp_path / "out").write_text("summary: 7\n")

    assert counts.read_totals(tmp_path) == [100, 200, 1000]


def test_the_recorded_figures_are_those_of_the_paths() -> None:
    assert figures.read().paths.keys() == paths.PATHS.keys()


@pytest.mark.parametrize("name", paths.PATHS)
async def test_a_path_runs(name: str) -> None:
    async with AsyncExitStack() as stack:
        run = await paths.PATHS[name].prepare(stack)
        await run()
        await run()
