"""`python -m tools.placement`: simulates the placement of partitions in a large fleet, and reports what it costs.

The exit status is 1 if the fleet breaks a promise: one host at a time serves a partition, loads differ by one at most
at rest, and a change moves little more than its fair share.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence

from tools.placement.simulation import RENEW_EVERY, WATCHED, Broken, Simulation

SIZES = (3, 10, 30, 100, 300, 1000)
# Changes may move this many times their fair share.
MOST_MOVED = 1.2
# Messages that end a watch of leases, begin another one, and bring its first values.
NEW_WATCH = 4 + WATCHED


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    print(f"{options.hosts} hosts, {options.partitions} partitions, seed {options.seed}")
    fleet = Simulation(options.hosts, options.partitions, options.seed)
    try:
        print(f"\nChurn of {options.churn:g} % an hour for {options.hours:g} h\n")
        fleet.churn(options.churn / 100, options.hours)
        for line in (*_times(fleet), *_moves(fleet), *_work(fleet, options.hours)):
            print(line)
        print(f"\n{options.outage} neighbours killed at once\n")
        fleet.forget_measures()
        fleet.kill_at_once(options.outage)
        for line in (*_times(fleet), *_moves(fleet)):
            print(line)
    except Broken as promise:
        print(promise, file=sys.stderr)
        return 1
    print("\nMessages per second at the server, of leases of one service\n")
    print("\n".join(_lease_messages()))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.placement")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--partitions", type=int, default=4096)
    parser.add_argument("--churn", type=float, default=5.0, help="percent of the hosts that end each hour")
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--outage", type=int, default=50, help="hosts that are killed at once at the end")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def _times(fleet: Simulation) -> Iterator[str]:
    yield f"{'seconds':34}{'count':>8}{'p50':>8}{'p99':>8}{'max':>8}"
    yield from _rows("until at rest after a ", fleet.times)
    yield from _rows("partition without a host: ", fleet.gaps)


def _rows(label: str, samples: Mapping[str, list[float]]) -> Iterator[str]:
    for name, values in sorted(samples.items()):
        ordered = sorted(values)
        marks = [ordered[math.ceil(part * len(ordered)) - 1] for part in (0.5, 0.99, 1)]
        yield f"{label + name:34}{len(ordered):8}" + "".join(f"{mark:8.3f}" for mark in marks)


def _moves(fleet: Simulation) -> Iterator[str]:
    changes = [change for episode in fleet.episodes for change in episode.changes]
    moved = sum(episode.moved for episode in fleet.episodes)
    fair = sum(change.share for change in changes)
    most = max(episode.moved / sum(change.share for change in episode.changes) for episode in fleet.episodes)
    yield f"partitions moved per change: {moved / len(changes):.2f}, a fair share: {fair / len(changes):.2f}"
    yield f"moved in proportion to the fair share: {moved / fair:.2f}, at most {most:.2f}"
    yield f"the fullest host at rest had {fleet.excess:.2f} partitions more than an even share"
    if moved > MOST_MOVED * fair:
        raise Broken("changes move more than their fair share")


def _work(fleet: Simulation, hours: float) -> Iterator[str]:
    tally = fleet.server.tally
    writes = tally.member_writes + tally.key_writes
    requests = 2 * (writes + tally.lost_claims + tally.lookups) + tally.member_writes * WATCHED * NEW_WATCH
    yield f"claims: {tally.claims} won, {tally.lost_claims} lost"
    yield f"assignments: {tally.assignments}, {1000 * tally.assigning / tally.assignments:.1f} ms of CPU each"
    yield f"messages of placement per second: {(writes * fleet.size + requests) / hours / 3600:.0f}"


def _lease_messages() -> Iterator[str]:
    yield f"{'hosts':>8}{'each watches all':>20}{f'each watches {WATCHED}':>20}"
    for hosts in SIZES:
        yield f"{hosts:8}{lease_messages(hosts, hosts - 1):20,.0f}{lease_messages(hosts, WATCHED):20,.0f}"


def lease_messages(hosts: int, watched: int) -> float:
    """Return the messages per second of renewals, their acknowledgements, and their copies to those who watch."""
    return hosts / RENEW_EVERY * (2 + min(watched, hosts - 1))


if __name__ == "__main__":
    sys.exit(main())
