"""The assignment of partitions to hosts: rendezvous hashing with bounded loads that keeps present owners.

Promises:

- All hosts that see the same hosts and owners compute the same assignment, in every process and Python version.
- Every host gets the floor or the ceiling of an even share.
- A partition leaves its owner only if the owner is gone, declines it, or has more than its share. So a host that joins
  moves its own share and no more, and a host that leaves moves only what it had.
- While partitions move, in any order, the assignment of the others stays the same.

A partition and a host have a weight together, which is a hash of both. Partitions in need of a host are matched by
weight: the heaviest pair first, among the hosts with room. A host that has too many gives up those of the highest
numbers.

A partition that some hosts can't serve is placed before those that any host can serve. What is left then makes the
loads even, as far as possible.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from hashlib import blake2b

_MASK = 2**64 - 1


def assign(
    type: str,
    partitions: int,
    hosts: Collection[str],
    owners: Mapping[int, str],
    declined: Mapping[str, Collection[int]] = {},
) -> dict[int, str]:
    """Return the host that should own each partition of a type.

    `hosts` are the live incarnations that serve the type. `owners` has the host that owns a partition now; hosts that
    aren't alive don't count. `declined` has the partitions that a host can't serve. A partition that no host can serve
    is missing from the result.
    """
    points = {host: _hash(f"{type} {host}") for host in hosts}
    loads = dict.fromkeys(points, 0)
    assigned: dict[int, str] = {}
    for refusing, group in _groups(partitions, hosts, declined):
        accepting = {host: point for host, point in points.items() if host not in refusing}
        if accepting:
            spread = _spread(group, accepting, loads, owners)
            for host in spread.values():
                loads[host] += 1
            assigned |= spread
    return assigned


def _groups(
    partitions: int, hosts: Collection[str], declined: Mapping[str, Collection[int]]
) -> list[tuple[frozenset[str], list[int]]]:
    """Return the partitions grouped by the hosts that decline them, the most declined first."""
    refusing: defaultdict[int, list[str]] = defaultdict(list)
    for host in declined.keys() & set(hosts):
        for partition in declined[host]:
            refusing[partition].append(host)
    groups: defaultdict[frozenset[str], list[int]] = defaultdict(list)
    for partition in range(partitions):
        groups[frozenset(refusing.get(partition, ()))].append(partition)
    return sorted(groups.items(), key=lambda group: (-len(group[0]), group[1]))


def _spread(
    group: list[int], points: Mapping[str, int], loads: Mapping[str, int], owners: Mapping[int, str]
) -> dict[int, str]:
    """Assign partitions that all of the hosts in `points` can serve, on top of what is assigned already."""
    kept: dict[str, list[int]] = {host: [] for host in points}
    orphans: list[int] = []
    for partition in group:
        kept.get(owners.get(partition, ""), orphans).append(partition)
    room = _room(len(group), {host: len(held) for host, held in kept.items()}, points, loads)
    for host, held in kept.items():
        orphans += held[room[host] :]
        del held[room[host] :]
        room[host] -= len(held)
    spread = {partition: host for host, held in kept.items() for partition in held}
    return spread | _match(orphans, room, points)


def _room(count: int, held: Mapping[str, int], points: Mapping[str, int], loads: Mapping[str, int]) -> dict[str, int]:
    """Return how many of `count` partitions each host gets, so that the loads become even.

    Loads are filled up to a common level. The hosts that get one more are those that have it already, then those with
    the lowest points. So neither a change of hosts nor the moves after it change more shares than they must.
    """
    hosts_by_load = Counter(loads[host] for host in points).items()

    def needed(level: int) -> int:
        return sum(max(0, level - load) * hosts for load, hosts in hosts_by_load)

    level = bisect_right(range(max(loads.values()) + count + 1), count, key=needed) - 1
    room = {host: max(0, level - loads[host]) for host in points}
    lowest = [host for host in points if loads[host] <= level]
    lowest.sort(key=lambda host: (held[host] <= room[host], points[host], host))
    for host in lowest[: count - sum(room.values())]:
        room[host] += 1
    return room


def _match(orphans: list[int], room: dict[str, int], points: Mapping[str, int]) -> dict[int, str]:
    """Match partitions with hosts that have room, the heaviest pair first."""
    matched: dict[int, str] = {}
    open = {host: points[host] for host, free in room.items() if free}

    def heaviest(salt: int, partition: int) -> tuple[int, int, int, str]:
        weights = [point * salt & _MASK for point in open.values()]
        weight, host = max(zip(weights, open, strict=True))
        return -weight, partition, salt, host

    pairs = [heaviest(_salt(partition), partition) for partition in orphans]
    heapq.heapify(pairs)
    while pairs:
        _, partition, salt, host = pairs[0]
        if host not in open:
            heapq.heapreplace(pairs, heaviest(salt, partition))
            continue
        heapq.heappop(pairs)
        matched[partition] = host
        room[host] -= 1
        if not room[host]:
            del open[host]
    return matched


def _salt(partition: int) -> int:
    return _hash(str(partition)) | 1


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
