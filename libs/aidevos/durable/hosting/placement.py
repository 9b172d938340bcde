"""The placement of partitions on hosts: each partition of a type is owned by one host at a time.

Promises: a host claims a partition by compare-and-set, and only if it was released or the lease of its owner is gone.
It owns what it has claimed and not released, whatever the bucket says. If the bucket has lost entries, the host gives
up everything. All hosts compute who should own what from the same keys, so each takes its share, and a few partitions
at a time move when a host joins or leaves: those without objects in memory first, together, and then the others one by
one. A partition that was released waits for no other one to be claimed.

Placement decides which host answers. It doesn't protect writes, which are fenced by claims of documents.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import NamedTuple

from nats.errors import Error as NatsError

from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.bucket import Bucket, Entry, RevisionConflict, RolledBack
from aidevos.durable.hosting.assignment import assign
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.membership import Membership, keep_watching
from aidevos.durable.hosting.placement_events import PlacementEvents

log = logging.getLogger(__name__)
# Busy partitions that one host hands over at a time. More would all be away for longer, because they share the
# processors. Of others nobody waits for an object.
MOVES_AT_ONCE, IDLE_MOVES_AT_ONCE = 1, 16
# A drain hands over this share of all partitions at a time if that is more, so that it ends in time.
DRAINED_SHARE = 0.01
# Seconds for which a host that has released a partition waits until another one has claimed it.
CLAIMED_WITHIN = 0.5
# Keys that are claimed in one write, and the writes of one host at a time. More would only wait in a busy server until
# they time out and are repeated.
CLAIMS_AT_ONCE = 100
WRITES_AT_ONCE = 4
RETRIES = Backoff(0.5, 8.0)
# Seconds between two looks at the lease of a host that leaves.
LOOK_EVERY = 1.0
GATHER = 0.005
RELEASES = Backoff(0.05, 1.0)


class Owner(NamedTuple):
    """The owner of a partition, or an empty string after a release, and the revision of its key."""

    incarnation: str
    revision: int


FREE = Owner("", 0)


def _owner(value: bytes | None, revision: int) -> Owner:
    return Owner((value or b"").decode("ascii", "replace"), revision)


def is_older(found: Owner, known: Owner) -> bool:
    """Return True if the bucket can't show `found` after `known`, unless it has lost entries."""
    return found.revision < known.revision or (found.revision == known.revision and found != known)


class Placement:
    """Claims this host's share of the partitions of its types, and hands over what exceeds it.

    `take(type, claimed)` begins to serve partitions that this host has claimed; `claimed` has the last owner of each,
    or an empty string. `hand_over(type, partition)` ends that, so that the key can be released.
    `is_busy(type, partition)` tells whether objects of it are in memory.
    """

    def __init__(
        self,
        keys: Bucket,
        membership: Membership,
        lease: Lease,
        partitions: Partitions,
        types: Collection[str],
        take: Callable[[str, dict[int, str]], Awaitable[None]],
        hand_over: Callable[[str, int], Awaitable[None]],
        is_busy: Callable[[str, int], bool],
        events: PlacementEvents,
    ) -> None:
        # Set once this host has its share.
        self.settled = asyncio.Event()
        self._keys = keys
        self._membership = membership
        self._lease = lease
        self._partitions = partitions
        self._types = types
        self._take = take
        self._hand_over = hand_over
        self._is_busy = is_busy
        self._events = events
        self._owners: dict[str, dict[int, Owner]] = {type: {} for type in types}
        self._held: dict[tuple[str, int], int] = {}
        # What this host should own, and the types for which that must be computed anew.
        self._wanted: dict[str, list[int]] = {}
        self._stale = set(types)
        # The number of partitions of each type that no living host owns.
        self._ownerless: dict[str, int] = {}
        # Hosts whose leases are gone, and those whose leases are looked at.
        self._gone: set[str] = set()
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._moves: dict[tuple[str, int], asyncio.Task[None]] = {}
        # Partitions that were released and that others should claim soon, unless nobody has claimed the last ones.
        self._released: dict[tuple[str, int], asyncio.Event] = {}
        self._patience = CLAIMED_WITHIN
        # Partitions that are being claimed and taken.
        self._coming: set[tuple[str, int]] = set()
        self._takeovers: set[asyncio.Task[None]] = set()
        self._due = asyncio.Event()
        self._loaded = asyncio.Event()
        self._stopped = False
        self._writing = asyncio.Semaphore(WRITES_AT_ONCE)
        # Claims in a row that were lost or of unknown outcome.
        self._failures = 0

    def owner_of(self, type: str, partition: int) -> str:
        """Return the incarnation that owns a partition, as far as this host knows, or an empty string."""
        return self._owners[type].get(partition, FREE).incarnation

    def find_ownerless(self) -> str:
        """Return how many partitions of which types no living host owns, or an empty string."""
        missing = (f"{count} partitions of {type}" for type, count in self._ownerless.items() if count)
        return f"no host owns {', '.join(found)}" if (found := list(missing)) else ""

    def place_soon(self) -> None:
        """Look at the placement again, because the hosts have changed."""
        self._stale.update(self._types)
        self._due.set()

    async def follow(self) -> None:
        """Keep the known owners up to date until cancelled."""
        await keep_watching(self._follow, self._lease)

    async def run(self) -> None:
        """Claim and hand over until stopped."""
        await self._membership.loaded.wait()
        await self._loaded.wait()
        while not self._stopped:
            await self._due.wait()
            # Changes come in bursts. Looking at each one by itself would delay the next.
            await asyncio.sleep(GATHER)
            self._due.clear()
            if not self._stopped:
                self._place()

    async def stop(self) -> None:
        """Claim nothing more, and begin no further move. Claims in progress are finished."""
        self._stopped = True
        self._due.set()
        await cancel_and_wait(list(self._looks.values()))
        await asyncio.gather(*self._takeovers)

    async def abandon(self) -> None:
        """Stop at once, because the lease is lost."""
        self._stopped = True
        await cancel_and_wait([*self._looks.values(), *self._takeovers, *self._moves.values()])

    async def drain(self, within: float) -> None:
        """Hand over and release all partitions. The placing must have been stopped.

        What isn't released `within` seconds, or before the lease is lost, is free once the lease is gone.
        """
        end = asyncio.get_running_loop().time() + within
        await asyncio.gather(*self._moves.values(), return_exceptions=True)
        idle = [place for place in self._held if not self._is_busy(*place)]
        await self._move_all(idle, IDLE_MOVES_AT_ONCE, end)
        await self._move_all(list(self._held), max(MOVES_AT_ONCE, int(len(self._held) * DRAINED_SHARE)), end)

    async def _follow(self) -> None:
        before = {type: dict(owners) for type, owners in self._owners.items()}
        found: dict[str, dict[int, Owner]] | None = {type: {} for type in self._types}
        async with aclosing(self._keys.watch([f"{type}.*" for type in self._types])) as entries:
            async for entry in entries:
                if entry is None:
                    self._adopt(found or {}, before)
                    found = None
                    self._loaded.set()
                else:
                    self._note(self._owners if found is None else found, entry)
                if found is None:
                    self._due.set()

    def _adopt(self, found: dict[str, dict[int, Owner]], before: Mapping[str, Mapping[int, Owner]]) -> None:
        """Replace what is known by what the bucket has, where that is not older.

        The bucket must show what this host knew before it asked, or something newer. Others would respect a claim of
        this host for ever whose release the bucket has lost, and this host would release what others have claimed by a
        revision that the bucket has given out again.
        """
        for type, owners in before.items():
            for each, owner in owners.items():
                if is_older(found[type].get(each, FREE), owner):
                    raise RolledBack("partitions")
        known, self._owners = self._owners, found
        self._stale.update(self._types)
        for type, owners in known.items():
            for each, owner in owners.items():
                self._note_own(type, each, owner)

    def _note(self, owners: dict[str, dict[int, Owner]], entry: Entry) -> None:
        type, _, partition = entry.key.partition(".")
        if not partition.isdigit():
            return
        owner = _owner(entry.value, entry.revision)
        place = (type, int(partition))
        known = owners[type].get(place[1], FREE)
        if owner.revision < known.revision:
            return
        if is_older(owner, known):
            raise RolledBack("partitions")
        owners[type][place[1]] = owner
        self._stale.add(type)
        if owner.incarnation and place in self._released:
            self._released[place].set()
        taken = owner.revision > self._held.get(place, owner.revision) and owner.incarnation != self._lease.incarnation
        if taken and not self._lease.lost.is_set():
            log.error("%s has taken %s, although this host has not released it", owner.incarnation, entry.key)
            self._lease.end()

    def _place(self) -> None:
        """Begin to claim what is free of this host's share, and to hand over what exceeds it."""
        stale, self._stale = self._stale, set()
        if self._gone:
            self._gone &= {owner.incarnation for owners in self._owners.values() for owner in owners.values()}
        for type in self._types:
            if type in stale:
                self._wanted[type] = self._assign(type)
                self._find_strays(type, self._wanted[type])
        for type, share in self._wanted.items():
            self._take_over(type, share)
        for busy, place in sorted((self._is_busy(*place), place) for place in self._surplus()):
            if len(self._moves) >= (MOVES_AT_ONCE if busy else IDLE_MOVES_AT_ONCE):
                break
            task = self._moves[place] = asyncio.get_running_loop().create_task(self._move(*place))
            task.add_done_callback(partial(self._on_moved, place))
        if all((type, each) in self._held for type, share in self._wanted.items() for each in share):
            self.settled.set()

    def _assign(self, type: str) -> list[int]:
        """Return the partitions of a type that this host should own. What it is claiming counts as its own."""
        hosts = {
            incarnation: member.declined.get(type, ())
            for incarnation, member in self._membership.members.items()
            if type in member.types
        }
        owners = {each: owner.incarnation for each, owner in self._owners[type].items() if owner.incarnation in hosts}
        self._ownerless[type] = self._partitions.count - len(owners)
        owners |= {each: self._lease.incarnation for name, each in self._coming if name == type}
        target = assign(type, self._partitions.count, hosts, owners, hosts)
        return [each for each, host in target.items() if host == self._lease.incarnation]

    def _take_over(self, type: str, share: Collection[int]) -> None:
        """Begin to claim what is free of a share, and to look at the hosts that keep the rest and are leaving."""
        busy = self._coming | self._moves.keys()
        missing = [each for each in share if (type, each) not in self._held and (type, each) not in busy]
        owners = {each: self._owners[type].get(each, FREE) for each in missing}
        for incarnation in sorted({owner.incarnation for owner in owners.values()} - self._membership.members.keys()):
            self._look_at(incarnation)
        free = {"", self._lease.incarnation, *self._gone}
        claims = [(each, owner) for each, owner in owners.items() if owner.incarnation in free]
        self._coming |= {(type, each) for each, _ in claims}
        for first in range(0, len(claims), CLAIMS_AT_ONCE):
            some = dict(claims[first : first + CLAIMS_AT_ONCE])
            task = asyncio.get_running_loop().create_task(self._claim_all(type, some))
            self._takeovers.add(task)
            task.add_done_callback(self._takeovers.discard)

    def _find_strays(self, type: str, share: Collection[int]) -> None:
        """Hold what this host has claimed by a write of unknown outcome and should own no longer, to hand it over."""
        for each, owner in self._owners[type].items():
            place = (type, each)
            is_own = owner.incarnation == self._lease.incarnation
            is_known = place in self._held or place in self._coming or place in self._moves
            if is_own and not is_known and each not in share:
                self._held[place] = owner.revision

    async def _claim_all(self, type: str, claims: Mapping[int, Owner]) -> None:
        """Claim partitions, and begin to serve those that were won."""
        try:
            async with self._writing:
                won = await self._claim(type, claims)
            for each, revision in won.items():
                self._held[type, each] = revision
                self._note_own(type, each, Owner(self._lease.incarnation, revision))
            if won:
                taken = {each: claims[each].incarnation for each in won}
                await self._take(type, taken)
                self._events.partitions_taken(type, taken)
                self._due.set()
            if len(won) == len(claims):
                self._failures = 0
            else:
                # What the watch has shown meanwhile was not acted upon.
                self._place_later()
        except Exception:
            log.exception("taking over partitions of %s failed, restarting the host", type)
            self._lease.end()
        self._coming -= {(type, each) for each in claims}
        self._stale.add(type)

    async def _claim(self, type: str, claims: Mapping[int, Owner]) -> dict[int, int]:
        """Return the revisions of the partitions that this host owns now.

        A key that names this host was claimed by a write of unknown outcome.
        """
        own = self._lease.incarnation
        mine = {each: owner.revision for each, owner in claims.items() if owner.incarnation == own}
        revisions = {f"{type}.{each}": owner.revision for each, owner in claims.items() if each not in mine}
        try:
            written = await self._write(revisions) if revisions else {}
        except RolledBack as bucket:
            log.error("the bucket %s has lost entries", bucket)
            self._lease.end(rolled_back=True)
            return mine
        except (NatsError, OSError) as error:
            log.warning("claiming %d partitions of %s failed, trying again: %r", len(revisions), type, error)
            return mine
        return mine | {int(key.rpartition(".")[2]): revision for key, revision in written.items()}

    async def _write(self, revisions: Mapping[str, int]) -> dict[str, int]:
        """Set keys that have these revisions to this host, and return the new revisions.

        Raises `RolledBack` if a key has an earlier one. What this host knew of it is lost then, and no watch would say
        so: the bucket may have as many entries as before.
        """
        value = self._lease.incarnation.encode()
        with suppress(RevisionConflict):
            return await self._keys.set_all(value, revisions)
        written = {}
        for key, revision in revisions.items():
            try:
                written[key] = await self._keys.set(key, value, revision)
            except RevisionConflict:
                _, found = await self._keys.get(key)
                if found < revision:
                    raise RolledBack("partitions") from None
        return written

    def _look_at(self, incarnation: str) -> None:
        """Begin to look at the lease of a host that is no member, until it is gone or nothing is missed from it."""
        if incarnation in self._gone or incarnation in self._looks or incarnation in ("", self._lease.incarnation):
            return
        task = self._looks[incarnation] = asyncio.get_running_loop().create_task(self._look(incarnation))
        task.add_done_callback(lambda _: self._looks.pop(incarnation))

    async def _look(self, incarnation: str) -> None:
        while self._is_in_the_way(incarnation):
            try:
                if await self._membership.is_gone(incarnation):
                    self._gone.add(incarnation)
                    self._due.set()
                    return
            except (NatsError, OSError) as error:
                log.warning("the lease of %s can't be read, trying again: %r", incarnation, error)
            await asyncio.sleep(LOOK_EVERY)

    def _is_in_the_way(self, incarnation: str) -> bool:
        """Return True if a host owns something that this host should own."""
        wanted = ((type, each) for type, share in self._wanted.items() for each in share)
        return any(self.owner_of(type, each) == incarnation for type, each in wanted)

    def _place_later(self) -> None:
        self._failures += 1
        asyncio.get_running_loop().call_later(RETRIES.pause(self._failures), self._due.set)

    def _surplus(self) -> list[tuple[str, int]]:
        """Return what this host serves, should own no longer and doesn't hand over yet."""
        keep = {(type, each) for type, share in self._wanted.items() for each in share} | self._coming
        return [place for place in self._held if place not in keep and place not in self._moves]

    async def _move(self, type: str, partition: int) -> None:
        try:
            await self._hand_over(type, partition)
        except Exception:
            log.exception("handing over %s.%d failed, restarting the host", type, partition)
            self._lease.end()
        # Others may claim the key before this host learns that it is free.
        left = await self._release(f"{type}.{partition}", self._held.pop((type, partition)))
        if left is not None:
            self._events.partitions_released(type, [partition])
            self._note_own(type, partition, left)
            await self._wait_claimed(type, partition)

    async def _move_all(self, places: Collection[tuple[str, int]], at_once: int, end: float) -> None:
        """Move partitions, a few at a time, until a time of the loop or until the lease is lost."""
        room, loop = asyncio.Semaphore(at_once), asyncio.get_running_loop()

        async def move(type: str, partition: int) -> None:
            async with room:
                if loop.time() < end and not self._lease.lost.is_set():
                    await self._move(type, partition)

        await asyncio.gather(*(move(*place) for place in places))

    async def _wait_claimed(self, type: str, partition: int) -> None:
        """Return when another host has claimed a partition, so that few are without an owner at a time."""
        heirs = [each for each, member in self._membership.members.items() if type in member.types]
        if heirs in ([], [self._lease.incarnation]) or self.owner_of(type, partition):
            return
        claimed = self._released[type, partition] = asyncio.Event()
        try:
            async with asyncio.timeout(self._patience):
                await claimed.wait()
            self._patience = CLAIMED_WITHIN
        except TimeoutError:
            self._patience = 0.0
        finally:
            del self._released[type, partition]

    async def _release(self, key: str, revision: int) -> Owner | None:
        """Delete a key, and return what it shows then; None if the lease is lost before."""
        pauses = RELEASES.pauses()
        while not self._lease.lost.is_set():
            try:
                try:
                    return Owner("", await self._keys.delete(key, revision))
                except RevisionConflict:
                    # An earlier attempt may have been applied.
                    value, revision = await self._keys.get(key)
                    if value != self._lease.incarnation.encode():
                        return _owner(value, revision)
            except (NatsError, OSError) as error:
                log.warning("releasing %s failed, trying again: %r", key, error)
                await pauses.wait()
        return None

    def _note_own(self, type: str, partition: int, owner: Owner) -> None:
        """Note what this host has just written, unless the watch has seen something newer."""
        if owner.revision > self._owners[type].get(partition, FREE).revision:
            self._owners[type][partition] = owner
            self._stale.add(type)

    def _on_moved(self, place: tuple[str, int], task: asyncio.Task[None]) -> None:
        del self._moves[place]
        self._due.set()
