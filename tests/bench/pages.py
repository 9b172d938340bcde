"""The comparison of requests as tables in Markdown and as plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.plots import bars
from tests.bench.requests import ECHO, OWN, Result

PROCESSES = ("http_gateway", "objects", "data_storage", "mongod", "nats-server", "events")


def markdown(results: Sequence[Result]) -> str:
    """Return two tables: all contestants, and the product's cost by process."""
    rows = [
        (
            "workload",
            "contestant",
            "requests/s",
            "spread",
            "µs CPU",
            "× chain",
            "p50 / p99 / p99.9 ms at half the rate",
        ),
        *(_cells(result) for result in results),
    ]
    own = [result for result in results if result.contestant == OWN]
    costs = [("µs CPU per request", "all", *PROCESSES), *(_parts(result) for result in own)]
    return "\n\n".join(_table(lines) for lines in (rows, costs)) + "\n"


def _cells(result: Result) -> tuple[str, ...]:
    steady = result.steady
    times = "" if steady is None else f"{steady.p50:.1f} / {steady.p99:.1f} / {steady.p999:.1f}"
    return (
        result.workload,
        result.contestant,
        f"{result.rate:,.0f}",
        f"{result.spread:.0%}",
        f"{result.cost:,.0f}",
        f"{result.chains:.2f}",
        times,
    )


def _parts(result: Result) -> tuple[str, ...]:
    return (result.workload, f"{result.cost:,.0f}", *(f"{result.cost_of(name):,.0f}" for name in PROCESSES))


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    head, *rows = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join((head, f"|{' --- |' * len(lines[0])}", *rows))


def plots(results: Sequence[Result]) -> dict[str, str]:
    """Return the plots by name: rates, CPU time, and p99 at half the rate."""
    workloads = list(dict.fromkeys(result.workload for result in results if result.contestant != ECHO))

    def of(workload: str) -> list[Result]:
        return [result for result in results if result.workload == workload]

    return {
        "rates": bars(
            "Requests over HTTP", "per second", {w: {r.contestant: r.rate for r in of(w)} for w in workloads}
        ),
        "cpu": bars(
            "CPU time of all processes", "µs per request", {w: {r.contestant: r.cost for r in of(w)} for w in workloads}
        ),
        "latency": bars(
            "p99 at half the maximum rate, open loop",
            "ms",
            {w: {r.contestant: r.steady.p99 for r in of(w) if r.steady} for w in workloads},
        ),
    }


def save(results: Sequence[Result], folder: Path, name: str) -> None:
    """Write `<name>.md`, and an SVG for each plot."""
    shown = plots(results)
    images = "\n".join(f"![{plot}]({name}-{plot}.svg)" for plot in shown)
    (folder / f"{name}.md").write_text(f"# Benchmark {name}\n\n{markdown(results)}\n{images}\n")
    for plot, svg in shown.items():
        (folder / f"{name}-{plot}.svg").write_text(svg)
