"""The buckets of members, leases and placement on the simulated NATS server, and the watches on them.

A view is what a host has seen of the log of all writes. Hosts see each write after a delay of their own, in order. The
assignment that follows from each view is worked out once for all hosts: a write by which partitions move as assigned
doesn't change it. (The assignment promises that, and its tests prove it.) A host hears only of writes that concern it.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

from aidevos.durable.hosting.assignment import assign
from tools.placement.timeline import Timeline

TYPE = "counter"
FREE = ""
# Seconds until a message arrives: the mean, and the longest delay at a busy process, which one message in 100 meets.
DELAY = 0.002
LONG_DELAY = 0.2


class Key(NamedTuple):
    """The owner of a partition, or `FREE`, and the number of the write that made it so."""

    revision: int
    owner: str


class Watcher(Protocol):
    def is_settled(self) -> bool: ...

    def see(self, revision: int, share: frozenset[int]) -> None: ...


@dataclass
class Tally:
    """What happened at the server. Times are in seconds."""

    member_writes: int = 0
    key_writes: int = 0
    lost_claims: int = 0
    claims: int = 0
    lookups: int = 0
    assignments: int = 0
    assigning: float = 0.0


@dataclass
class Server:
    """The truth, of which hosts see a prefix. `on_change` is called after each write."""

    timeline: Timeline
    random: Random
    partitions: int
    members: set[str]
    on_change: Callable[[], None] = lambda: None
    watchers: dict[str, Watcher] = field(default_factory=dict)
    leases: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.revision = 0
        # The writes by which hosts joined and left.
        self.joined = dict.fromkeys(self.members, 0)
        self.left: dict[str, int] = {}
        self.leases |= self.members
        self.assigned = assign(TYPE, self.partitions, self.members, {})
        self.shares = _shares(self.assigned)
        self.keys = [[Key(0, self.assigned[partition])] for partition in range(self.partitions)]
        # Partitions that don't belong to the host that they are assigned to.
        self.misplaced: set[int] = set()

    def delay(self) -> float:
        if self.random.random() < 0.01:
            return self.random.uniform(0, LONG_DELAY)
        return self.random.expovariate(1 / DELAY)

    def loads(self) -> Counter[str]:
        owned = Counter(history[-1].owner for history in self.keys)
        return Counter({host: owned[host] for host in self.members | owned.keys()})

    def owned(self, host: str) -> list[int]:
        return [partition for partition, history in enumerate(self.keys) if history[-1].owner == host]

    def key(self, partition: int, revision: int) -> Key:
        """Return a key as it was after a write."""
        return next(key for key in reversed(self.keys[partition]) if key.revision <= revision)

    def join(self, host: str) -> None:
        self.leases.add(host)
        self.members.add(host)
        self.joined[host] = self.revision + 1
        self._write_member()

    def leave(self, host: str) -> None:
        self.members.remove(host)
        self.left[host] = self.revision + 1
        self._write_member()

    def share(self, host: str, revision: int, claimed: Collection[int]) -> frozenset[int]:
        """Return the share of a host that has seen the log up to a write, and knows of its own claims."""
        members = {each for each, joined in self.joined.items() if joined <= revision < self.left.get(each, math.inf)}
        owners = {partition: self.key(partition, revision).owner for partition in range(self.partitions)}
        owners |= dict.fromkeys(claimed, host)
        assigned = assign(TYPE, self.partitions, members, owners)
        return frozenset(partition for partition, owner in assigned.items() if owner == host)

    def claim(self, host: str, seen: dict[int, Key]) -> dict[int, int]:
        """Claim partitions whose keys a host has seen. Return the claims that won, with the numbers of the writes."""
        won: dict[int, int] = {}
        for partition, key in seen.items():
            if self.keys[partition][-1] == key:
                self._write_key(partition, host)
                won[partition] = self.revision
        self.tally.claims += len(won)
        self.tally.lost_claims += len(seen) - len(won)
        return won

    def release(self, partition: int) -> None:
        self._write_key(partition, FREE)

    def _write_member(self) -> None:
        self.revision += 1
        self.tally.member_writes += 1
        before = self.shares
        self._assign()
        self._show(self._changed(before))
        self.on_change()

    def _write_key(self, partition: int, owner: str) -> None:
        self.revision += 1
        self.tally.key_writes += 1
        before, target, shares = self.keys[partition][-1].owner, self.assigned[partition], self.shares
        self.keys[partition].append(Key(self.revision, owner))
        if owner == target:
            self.misplaced.discard(partition)
        elif owner == FREE and before != target:
            self.misplaced.add(partition)
        else:
            self._assign()
        self._show({target, *self._changed(shares)})
        self.on_change()

    def _assign(self) -> None:
        began = time.process_time()
        owners = {partition: history[-1].owner for partition, history in enumerate(self.keys)}
        self.assigned = assign(TYPE, self.partitions, self.members, owners)
        self.tally.assignments += 1
        self.tally.assigning += time.process_time() - began
        self.shares = _shares(self.assigned)
        self.misplaced = {partition for partition, owner in owners.items() if owner != self.assigned.get(partition)}

    def _changed(self, before: dict[str, frozenset[int]]) -> set[str]:
        """Return the hosts whose shares have changed."""
        if self.shares is before:
            return set()
        return {host for host, _ in self.shares.items() ^ before.items()}

    def _show(self, hosts: Iterable[str]) -> None:
        busy = {host for host, watcher in self.watchers.items() if not watcher.is_settled()}
        for host in sorted({*hosts, *busy} & self.watchers.keys()):
            self.watchers[host].see(self.revision, self.shares.get(host, frozenset()))


def _shares(assigned: dict[int, str]) -> dict[str, frozenset[int]]:
    shares: defaultdict[str, set[int]] = defaultdict(set)
    for partition, host in assigned.items():
        shares[host].add(partition)
    return {host: frozenset(share) for host, share in shares.items()}
