"""Compares two measurements by their ratio; both are taken in turn in every round."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Literal, NamedTuple

import msgspec

from tests.bench.load import Load, Order, Sample

Quantity = Literal["rate", "p50", "p99"]


class Comparison(NamedTuple):
    """Two measurements, `own` and `other`.

    The load `during` runs while `own` is measured, and the context `around` is entered for that time. The ratio of
    their `of` values must lie between `at_least` and `at_most`.
    """

    name: str
    own: Order
    beside: str
    other: Order
    during: Order | None = None
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    of: Quantity = "rate"
    at_least: float | None = None
    at_most: float | None = None


class Compared(msgspec.Struct):
    """Pairs of samples, one pair per round."""

    name: str
    beside: str
    of: Quantity
    own: list[Sample]
    other: list[Sample]
    at_least: float | None
    at_most: float | None
    unit: str = "ms p99"

    @property
    def ratio(self) -> float:
        """The median of the ratios of the rounds."""
        return median(
            _value(own, self.of) / _value(other, self.of) for own, other in zip(self.own, self.other, strict=True)
        )

    @property
    def missed(self) -> bool:
        low, high = self.at_least, self.at_most
        return (low is not None and self.ratio < low) or (high is not None and self.ratio > high)

    def cells(self) -> tuple[str, ...]:
        own, other = (median(_value(sample, self.of) for sample in samples) for samples in (self.own, self.other))
        bounds = (f"≥ {self.at_least}" if self.at_least else "", f"≤ {self.at_most}" if self.at_most else "")
        target = " ".join(filter(None, bounds))
        verdict = "" if not target else " MISSED" if self.missed else " met"
        unit = "req/s" if self.of == "rate" else self.unit
        return (
            self.name,
            f"{own:,.1f} {unit}",
            self.beside,
            f"{other:,.1f} {unit}",
            f"{self.ratio:.2f}",
            target + verdict,
        )


def compare(
    comparisons: list[Comparison], rounds: int, load: Load, background: Load, say: Callable[[str], None]
) -> list[Compared]:
    """Measure each pair once per round, with the two swapped every other round."""
    found = [Compared(each.name, each.beside, each.of, [], [], each.at_least, each.at_most) for each in comparisons]
    for turn in range(rounds):
        for each, compared in zip(comparisons, found, strict=True):
            say(f"round {turn + 1} of {rounds}: {each.name}")
            if turn % 2:
                compared.other.append(load.run(each.other))
            compared.own.append(_run(each, load, background))
            if not turn % 2:
                compared.other.append(load.run(each.other))
    return found


def _run(comparison: Comparison, load: Load, background: Load) -> Sample:
    with comparison.around():
        if comparison.during is None:
            return load.run(comparison.own)
        longer = msgspec.structs.replace(comparison.during, seconds=comparison.own.seconds + 1.0)
        background.begin(longer)
        sample = load.run(comparison.own)
        background.end()
        return sample


def _value(sample: Sample, of: Quantity) -> float:
    return float(getattr(sample, of))
