"""The samples of a run: as rows with their floors, as a table, and as a file."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec

from tests.bench import pages
from tests.bench.cases import CASES, Case
from tests.bench.comparison import Compared
from tests.bench.footprint import HEAD as FOOTPRINT_HEAD
from tests.bench.footprint import Footprint
from tests.bench.load import Sample
from tests.bench.requests import Result
from tests.bench.steadiness import HEAD, Steadiness


class Measure(msgspec.Struct):
    """A sample, and the cores that each process used meanwhile."""

    sample: Sample
    cores: dict[str, float]


Measures = dict[str, list[Measure]]


class Row(msgspec.Struct):
    """Medians over the rounds. Each ratio is the median of the ratios within the rounds, since a shared
    machine changes its pace more between rounds than within one."""

    name: str
    in_flight: int
    rate: float
    p50: float
    p99: float
    echo_rate: float
    times_echo: float
    plain_rate: float
    times_plain: float
    target: float | None
    cores: dict[str, float]

    @property
    def missed(self) -> bool:
        return self.target is not None and self.times_plain < self.target


class Report(msgspec.Struct):
    at: str
    machine: str
    load_average: float
    rows: list[Row]
    compared: list[Compared]
    measures: Measures
    steadiness: list[Steadiness] = []
    requests: list[Result] = []
    footprint: list[Footprint] = []

    @property
    def missed(self) -> bool:
        return any(each.missed for each in (*self.rows, *self.compared, *self.steadiness, *self.footprint))


def report(
    measures: Measures,
    compared: list[Compared],
    steadiness: Sequence[Steadiness] = (),
    requests: Sequence[Result] = (),
    footprint: Sequence[Footprint] = (),
) -> Report:
    return Report(
        at=datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        machine=f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}",
        load_average=os.getloadavg()[0],
        rows=[_row(case, measures) for case in CASES] if measures else [],
        compared=compared,
        measures=measures,
        steadiness=list(steadiness),
        requests=list(requests),
        footprint=list(footprint),
    )


def save(report: Report, home: Path) -> Path:
    folder = home / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.at}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    if report.requests:
        pages.save(report.requests, folder, report.at)
    return path


def table(report: Report) -> str:
    head = ("", "in flight", "req/s", "p50 ms", "p99 ms", "echo", "× echo", "plain", "× plain", "target", "busiest")
    rows = [head, *(_cells(row) for row in report.rows)] if report.rows else []
    pairs = [("", "measured", "beside", "measured", "ratio", "target"), *(each.cells() for each in report.compared)]
    cases = [HEAD, *(each.cells() for each in report.steadiness)]
    sizes = [FOOTPRINT_HEAD, *(cells for each in report.footprint for cells in each.cells())]
    tables = ((rows, (0, 10)), (pairs, (0, 2, 5)), (cases, (0, 6)), (sizes, (0, 2)))
    shown = [_aligned(lines, left) for lines, left in tables if len(lines) > 1]
    return "\n\n".join([pages.markdown(report.requests)] * bool(report.requests) + shown)


def _aligned(lines: Sequence[tuple[str, ...]], left: tuple[int, ...]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if column in left else cell.rjust(width) for column, (cell, width) in numbered)
        for numbered in (list(enumerate(zip(line, widths, strict=True))) for line in lines)
    )


def _cells(row: Row) -> tuple[str, ...]:
    target = "" if row.target is None else f"{row.target:.0f} {'MISSED' if row.missed else 'met'}"
    busiest = sorted(row.cores.items(), key=lambda item: -item[1])[:3]
    return (
        row.name,
        str(row.in_flight),
        f"{row.rate:,.0f}",
        f"{row.p50:.2f}",
        f"{row.p99:.2f}",
        f"{row.echo_rate:,.0f}",
        f"{row.times_echo:.2f}",
        f"{row.plain_rate:,.0f}",
        f"{row.times_plain:.1f}",
        target,
        ", ".join(f"{name} {share:.0%}" for name, share in busiest),
    )


def _row(case: Case, measures: Measures) -> Row:
    own = measures[case.product]

    def beside(floor: str) -> tuple[float, float]:
        rates = [measure.sample.rate for measure in measures[floor]]
        ratios = [measure.sample.rate / rate for measure, rate in zip(own, rates, strict=True)]
        return median(rates), median(ratios)

    echo_rate, times_echo = beside(case.echo)
    plain_rate, times_plain = beside(case.plain)
    return Row(
        name=case.product,
        in_flight=case.in_flight,
        rate=median(measure.sample.rate for measure in own),
        p50=median(measure.sample.p50 for measure in own),
        p99=median(measure.sample.p99 for measure in own),
        echo_rate=echo_rate,
        times_echo=times_echo,
        plain_rate=plain_rate,
        times_plain=times_plain,
        target=case.target,
        cores={name: median(measure.cores[name] for measure in own) for name in own[0].cores},
    )
