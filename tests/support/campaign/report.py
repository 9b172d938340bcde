"""The report of a campaign: faults and errors by kind, operations, the longest unavailability, and violations."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from aidevos.testing import Operation, Refusal, Unknown
from tests.support.campaign.faults import Happened

# Seconds after a fault in which it may still keep objects from answering.
RECOVERY = 5.0
# Seconds between two requests that count as one wait.
STILL_WAITING = 1.0
NO_FAULT, SEVERAL = "no fault", "several faults at once"


@dataclass
class Report:
    """The events in the rounds of a campaign with one seed."""

    seed: int
    rounds: int = 0
    operations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    # Answers that were errors, by code, with those of an unknown outcome.
    errors: Counter[str] = field(default_factory=Counter)
    # Seconds for which an object that somebody called gave no answer to anybody, at most, by kind of fault.
    outages: dict[str, float] = field(default_factory=dict)
    # Processes that ended by themselves.
    crashes: Counter[str] = field(default_factory=Counter)
    # What processes have logged as errors.
    logged: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, history: Sequence[Operation], happened: Sequence[Happened], violations: Iterable[str]) -> None:
        """Add a round."""
        self.rounds += 1
        self.operations += len(history)
        self.faults.update(each.kind for each in happened)
        self.errors.update(code for each in history if (code := _code(each)))
        self.violations += violations
        for kind, seconds in find_outages(history, happened).items():
            self.outages[kind] = max(seconds, self.outages.get(kind, 0.0))

    def __str__(self) -> str:
        lines = [f"Seed {self.seed}, {self.rounds} rounds", "", "Faults, and the longest unavailability in seconds:"]
        for kind in sorted({*self.faults, *self.outages}):
            longest = f"{self.outages[kind]:8.2f}" if kind in self.outages else "       –"
            lines.append(f"  {self.faults[kind] or '':>5}  {longest}  {kind}")
        counted = {
            "Errors": self.errors,
            "Processes that ended by themselves": self.crashes,
            "Logged errors": self.logged,
        }
        for title, counts in counted.items():
            lines += ["", f"{title}:", *(f"  {count:>5}  {name}" for name, count in counts.most_common())]
        lines += ["", "Violations:", *self.violations] if self.violations else []
        lines += ["", self.summary]
        return "\n".join(lines)

    @property
    def summary(self) -> str:
        """The last line of the report."""
        faults = sum(self.faults.values())
        return (
            f"seed {self.seed}, {faults} faults, {self.operations} operations, "
            f"{sum(self.errors.values())} errors, {len(self.violations)} violations"
        )


def find_outages(history: Iterable[Operation], happened: Sequence[Happened]) -> dict[str, float]:
    """Return the longest time for which a called object answered nobody, by the fault that was there meanwhile."""
    objects: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        objects[operation.object].append(operation)
    longest: dict[str, float] = {}
    for operations in objects.values():
        for begun, ended in _find_waits(operations):
            kind = _kind_between(happened, begun, ended)
            longest[kind] = max(ended - begun, longest.get(kind, 0.0))
    return longest


def _find_waits(operations: Iterable[Operation]) -> Iterator[tuple[float, float]]:
    """Return the times during which someone waited for an object, each up to an answer or until nobody waited."""
    answers = sorted(each.returned for each in operations if not isinstance(each.outcome, Unknown))
    begun = ended = -inf
    for operation in sorted(operations, key=lambda each: each.called):
        place = bisect_left(answers, operation.called)
        answer = answers[place] if place < len(answers) else inf
        is_new = operation.called > ended + STILL_WAITING or bisect_left(answers, begun) < place
        if is_new and begun > -inf:
            yield begun, ended
        begun = operation.called if is_new else begun
        ended = min(answer, operation.returned if is_new else max(ended, operation.returned))
    if begun > -inf:
        yield begun, ended


def _kind_between(happened: Iterable[Happened], begun: float, ended: float) -> str:
    met = [each.kind for each in happened if each.begun < ended and begun < each.ended + RECOVERY]
    return met[0] if len(met) == 1 else SEVERAL if met else NO_FAULT


def _code(operation: Operation) -> str:
    outcome = operation.outcome
    return outcome.code if isinstance(outcome, Refusal | Unknown) else ""
