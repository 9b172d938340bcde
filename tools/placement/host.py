"""A simulated host: it claims its share, hands over what exceeds it, drains, or is killed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from tools.placement.server import FREE, Key, Server

MOVES_AT_ONCE = 1
LOOK_EVERY = 1.0
# Seconds that it takes to finish and commit what a partition has begun, and to subscribe and scan one: the means.
HANDOVER = 0.02
TAKING = 0.01


class Host:
    """One incarnation. `on_serve` and `on_stop` are called when it begins and stops to serve a partition."""

    def __init__(
        self, name: str, server: Server, on_serve: Callable[[int], None], on_stop: Callable[[int], None]
    ) -> None:
        self.name = name
        self.alive = True
        self.held: set[int] = set()
        self._server = server
        self._timeline = server.timeline
        self._on_serve = on_serve
        self._on_stop = on_stop
        self._revision = 0
        self._share: frozenset[int] = frozenset()
        self._seen_at = 0.0
        self._to_see = 0
        self._moving: set[int] = set()
        # The numbers of the claims that this host hasn't seen in the log yet.
        self._claimed: dict[int, int] = {}
        # The share that follows from the log as far as this host has seen it, and the one that `_share` comes from.
        self._shown = self._known_for = self._share
        self._coming: set[int] = set()
        self._draining = False
        # Hosts whose leases are gone, and those whose leases are looked at.
        self._gone: set[str] = set()
        self._looks: set[str] = set()
        server.watchers[name] = self

    def start_with(self, share: frozenset[int]) -> None:
        """Begin in a fleet at rest."""
        self._share = self._shown = self._known_for = share
        self.held = set(share)

    def is_settled(self) -> bool:
        return not self._coming and not self._to_see and not self._moving and self.held == self._share

    def see(self, revision: int, share: frozenset[int]) -> None:
        """See a write a moment later. Writes arrive in order."""
        self._to_see += 1
        self._seen_at = max(self._seen_at, self._timeline.now + self._server.delay())
        self._timeline.at(self._seen_at, partial(self._note, revision, share))

    def kill(self) -> None:
        self.alive = False
        del self._server.watchers[self.name]

    def drain(self) -> None:
        self._draining = True
        self._server.leave(self.name)
        self._hand_over()

    def _note(self, revision: int, share: frozenset[int]) -> None:
        self._to_see -= 1
        self._revision, self._shown = revision, share
        self._claimed = {partition: number for partition, number in self._claimed.items() if number > revision}
        self._place()

    def _place(self) -> None:
        if self._draining or not self.alive:
            return
        self._assign()
        wanted = {
            partition: self._server.key(partition, self._revision)
            for partition in self._share - self.held - self._moving - self._coming
        }
        for owner in {key.owner for key in wanted.values() if self._has_left(key.owner)} - self._gone - self._looks:
            self._looks.add(owner)
            self._look_at(owner)
        free = {partition: key for partition, key in wanted.items() if key.owner in {FREE, *self._gone}}
        if free:
            self._coming |= free.keys()
            self._timeline.after(self._server.delay(), partial(self._claim, free))
        self._hand_over()

    def _assign(self) -> None:
        """Work out the share that follows from what this host has seen, and has claimed or is claiming."""
        claimed = self._claimed.keys() | self._coming
        unseen = claimed - self._shown
        if not unseen:
            self._share = self._shown
        elif self._known_for is not self._shown or not unseen <= self._share:
            self._share = self._server.share(self.name, self._revision, claimed)
        self._known_for = self._shown

    def _has_left(self, owner: str) -> bool:
        return owner != FREE and self._server.left.get(owner, self._revision + 1) <= self._revision

    def _look_at(self, owner: str) -> None:
        """Ask for the lease of an owner that isn't a member, again and again until it is gone or owns nothing more."""
        share = self._share - self.held if self.alive and not self._draining else frozenset[int]()
        if not any(self._server.key(partition, self._revision).owner == owner for partition in share):
            self._looks.discard(owner)
            return
        self._server.tally.lookups += 1
        if owner in self._server.leases:
            self._timeline.after(LOOK_EVERY, partial(self._look_at, owner))
        else:
            self._timeline.after(self._server.delay() + self._server.delay(), partial(self._note_gone, owner))

    def _note_gone(self, owner: str) -> None:
        self._looks.discard(owner)
        self._gone.add(owner)
        self._place()

    def _claim(self, seen: dict[int, Key]) -> None:
        won = self._server.claim(self.name, seen)
        self._timeline.after(self._server.delay() + self._lasting(TAKING), partial(self._take, won, seen.keys()))

    def _take(self, won: dict[int, int], wanted: Collection[int]) -> None:
        self._coming -= set(wanted)
        if not self.alive:
            return
        self.held |= won.keys()
        self._claimed |= won
        for partition in won:
            self._on_serve(partition)
        self._hand_over()
        self._place()

    def _hand_over(self) -> None:
        keep = frozenset[int]() if self._draining else self._share
        surplus = sorted(self.held - keep - self._moving)
        for partition in surplus[: max(0, MOVES_AT_ONCE - len(self._moving))]:
            self._moving.add(partition)
            self._on_stop(partition)
            self._timeline.after(self._lasting(HANDOVER) + self._server.delay(), partial(self._release, partition))
        if self._draining and not self.held and not self._moving and not self._coming:
            self._end()

    def _release(self, partition: int) -> None:
        if self.alive:
            self.held.remove(partition)
            self._server.release(partition)
            self._timeline.after(self._server.delay(), partial(self._forget, partition))

    def _forget(self, partition: int) -> None:
        self._moving.remove(partition)
        if self._draining:
            self._hand_over()
        else:
            self._place()

    def _end(self) -> None:
        if self.alive:
            self.alive = False
            self._server.leases.discard(self.name)
            del self._server.watchers[self.name]

    def _lasting(self, mean: float) -> float:
        return self._server.random.expovariate(1 / mean)
