"""The CPU time that work costs the product's processes, which is steadier than rates on a busy machine."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence

from tests.bench.comparison import Compared
from tests.bench.load import Sample
from tests.bench.requests import cpu_seconds

# The least that is worth a row, in µs.
LEAST = 1.0


class Costs:
    """What several samples of one kind of work have cost, by process."""

    def __init__(self) -> None:
        self._spent: list[tuple[dict[str, float], int]] = []

    async def measure(self, work: Awaitable[Sample]) -> Sample:
        """Do some work whose sample has its count."""
        before = cpu_seconds()
        sample = await work
        spent = {name: now - before.get(name, 0.0) for name, now in cpu_seconds().items()}
        self._spent.append((spent, sample.count))
        return sample

    def totals(self) -> list[float]:
        """Return the µs of all processes for one piece of work, by sample."""
        return [1e6 * sum(spent.values()) / count for spent, count in self._spent]

    def by_process(self) -> Mapping[str, list[float]]:
        """Return the µs of each process for one piece of work, by sample, without those that had no part in it."""
        names = dict.fromkeys(name for spent, _ in self._spent for name in spent)
        found = {name: [1e6 * spent.get(name, 0.0) / count for spent, count in self._spent] for name in names}
        return {name: costs for name, costs in sorted(found.items()) if max(costs) >= LEAST}


def cost_rows(name: str, own: Costs, beside: str, other: Costs) -> list[Compared]:
    """Return a row with the cost of one piece of work, and one with each process's share of it."""

    def row(part: str, beside: str, costs: Sequence[float], others: Sequence[float]) -> Compared:
        samples = ([Sample(0.0, each, each) for each in these] for these in (costs, others))
        return Compared(f"{name}{part}", beside, "p99", *samples, None, None, "µs CPU")

    shares = (row(f": {each}", "all processes", costs, own.totals()) for each, costs in own.by_process().items())
    return [row(", CPU", beside, own.totals(), other.totals()), *shares]
