"""Simulate many seeds: `python -m tests.simulation --seeds 300 --first 0`.

The last line is a summary, and the exit status 1 if anything was violated. A failed seed is repeated by
`--first SEED --seeds 1`.
"""

from __future__ import annotations

import argparse
import sys
import time

from aidevos.testing.simulation.campaign import cores, describe, simulate_seeds
from aidevos.testing.simulation.plan import OPERATIONS
from tests.support.mutations import mutated
from tests.support.simulated import Proofs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=300, help="number of seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="operations of each seed")
    parser.add_argument("--processes", type=int, default=cores(), help="processes that run at once")
    parser.add_argument("--no-shrink", action="store_true", help="print a failed seed with its whole plan")
    options = parser.parse_args()
    began = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    with mutated():
        report = simulate_seeds(
            Proofs(),
            seeds,
            operations=options.operations,
            processes=options.processes,
            shortens=not options.no_shrink,
        )
    for failed in report.failed:
        print(f"Seed {failed.plan.seed} failed:\n{describe(failed)}\n")
    lasted = time.monotonic() - began
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.faults.items()))
    print(f"faults by kind: {kinds or 'none'}")
    print(f"{lasted:.0f} s, {report.operations / lasted:.0f} operations/s")
    print(report)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
