"""The simulated fleet: hosts come and go, and what that costs is measured.

A dead host is found as in the product: the three hosts before it in the ring of names watch its lease, and remove it
from the members when the lease has expired.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import NamedTuple

from tools.placement.host import Host
from tools.placement.server import Server
from tools.placement.timeline import Timeline

LEASE_TTL = 3.0
RENEW_EVERY = 0.5
WATCHED = 3
# Seconds from the end of a host until another one joins in its place, at most.
REPLACED_WITHIN = 60.0
# Seconds after the last change in which the fleet must come to rest.
REST_WITHIN = 60.0


class Broken(Exception):
    """Raised when the fleet breaks a promise."""


class Change(NamedTuple):
    """A host came or went; `share` are the partitions that this should move."""

    kind: str
    at: float
    share: float


class Episode(NamedTuple):
    """The changes since the fleet was at rest last, and the partitions that moved."""

    changes: list[Change]
    moved: int


class Simulation:
    """A fleet of `hosts`, at rest. `run` makes changes happen."""

    def __init__(self, hosts: int, partitions: int, seed: int) -> None:
        self.timeline = Timeline()
        self.random = Random(seed)  # noqa: S311
        self._numbers = count()
        members = {self._new_name() for _ in range(hosts)}
        self.server = Server(self.timeline, self.random, partitions, members, self._check)
        self.hosts = {name: Host(name, self.server, self._serve, self._stop) for name in sorted(members)}
        self.size = hosts
        self.forget_measures()
        self._pending: list[Change] = []
        self._claims_at_rest = 0
        self._dead: set[str] = set()
        self._expired: set[str] = set()
        self._removals: set[tuple[str, str]] = set()
        # Why and when a partition lost its host.
        self._stopped: dict[int, tuple[str, float]] = {}
        for name, host in self.hosts.items():
            host.start_with(self.server.shares.get(name, frozenset()))

    def forget_measures(self) -> None:
        """Begin to measure anew. `excess` is what the fullest host had more than an even share, at rest."""
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.gaps: defaultdict[str, list[float]] = defaultdict(list)
        self.episodes: list[Episode] = []
        self.excess = 0.0

    def churn(self, rate: float, hours: float) -> None:
        """End a fraction of the hosts each hour, half of them by a kill. Others join in their place."""
        began = self.timeline.now
        for _ in range(round(rate * len(self.hosts) * hours)):
            end = self.random.choice((self.drain, self.kill))
            at = began + self.random.uniform(0, hours * 3600)
            self.timeline.at(at, partial(self._end_any, end))
            self.timeline.at(at + self.random.uniform(0, REPLACED_WITHIN), self.join)
        self._rest(began + hours * 3600 + REPLACED_WITHIN)

    def kill_at_once(self, number: int) -> None:
        """Kill hosts that are neighbours in the ring, as if a rack had lost its power."""
        names = sorted(self.hosts)
        first = self.random.randrange(len(names) - number + 1)
        for name in names[first : first + number]:
            self.kill(name)
        self._rest(self.timeline.now)

    def join(self) -> None:
        name = self._new_name()
        self._begin("join", len(self.server.members) + 1)
        self.hosts[name] = Host(name, self.server, self._serve, self._stop)
        self.server.join(name)

    def drain(self, name: str) -> None:
        self._begin("drain", len(self.server.members))
        self.hosts.pop(name).drain()

    def kill(self, name: str) -> None:
        self._begin("kill", len(self.server.members))
        self._dead.add(name)
        self.hosts.pop(name).kill()
        for partition in self.server.owned(name):
            _, since = self._stopped.get(partition, ("", self.timeline.now))
            self._stopped[partition] = ("kill", since)
        self.timeline.after(LEASE_TTL - self.random.uniform(0, RENEW_EVERY), partial(self._expire, name))

    def spread(self) -> int:
        """Return by how many partitions the loads of two hosts differ at most."""
        loads = self.server.loads().values()
        return max(loads) - min(loads)

    def _rest(self, last_change: float) -> None:
        self.timeline.run(until=last_change + REST_WITHIN)
        if self._pending:
            raise Broken(f"the fleet doesn't come to rest: {len(self.server.misplaced)} partitions are misplaced")

    def _new_name(self) -> str:
        return f"objects-{next(self._numbers)}.{self.random.getrandbits(64):016x}"

    def _end_any(self, end: Callable[[str], None]) -> None:
        if len(self.hosts) > 1:
            end(self.random.choice(sorted(self.hosts)))

    def _begin(self, kind: str, hosts: int) -> None:
        self._pending.append(Change(kind, self.timeline.now, self.server.partitions / hosts))

    def _expire(self, name: str) -> None:
        self.server.leases.discard(name)
        self._expired.add(name)
        self._find_dead()

    def _find_dead(self) -> None:
        ring = sorted(self.server.members)
        for name in self._expired:
            place = bisect(ring, name) - 1
            for watcher in {ring[place - distance] for distance in range(1, WATCHED + 1)} & self.hosts.keys():
                if (name, watcher) not in self._removals:
                    self._removals.add((name, watcher))
                    # The expiry arrives, the lease is looked up, and the member is deleted.
                    pause = sum(self.server.delay() for _ in range(4))
                    self.timeline.after(pause, partial(self._remove, name, watcher))

    def _remove(self, name: str, watcher: str) -> None:
        self.server.tally.lookups += 1
        if name in self._expired and watcher in self.hosts:
            self._expired.remove(name)
            self._dead.remove(name)
            self.server.leave(name)
            self._find_dead()

    def _serve(self, partition: int) -> None:
        if partition not in self._stopped:
            raise Broken(f"two hosts serve the partition {partition}")
        reason, since = self._stopped.pop(partition)
        self.gaps[reason].append(self.timeline.now - since)

    def _stop(self, partition: int) -> None:
        self._stopped[partition] = ("handoff", self.timeline.now)

    def _check(self) -> None:
        """Note that the fleet is at rest, if it is."""
        if self.server.misplaced or self._dead or not self._pending:
            return
        if self.spread() > 1:
            raise Broken(f"at rest, the loads of two hosts differ by {self.spread()} partitions")
        even = self.server.partitions / len(self.server.members)
        self.excess = max(self.excess, max(self.server.loads().values()) - even)
        for change in self._pending:
            self.times[change.kind].append(self.timeline.now - change.at)
        claims = self.server.tally.claims
        self.episodes.append(Episode(self._pending, claims - self._claims_at_rest))
        self._pending, self._claims_at_rest = [], claims
