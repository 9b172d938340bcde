"""The hosts of one service, as they know each other through the bucket of hosts.

Promises: each host says under a key of its own what it is, and every host of the service sees that key appear and
vanish within moments. A host that has died is noticed when its lease has expired: each host watches the leases of the
next few in the ring of all names, and removes the key of one whose lease is gone. The number of messages for each host
is therefore the same in a large fleet.

Hosts that commit in different forms can't run side by side, because the store refuses the commits of one of them. A
host doesn't join while one of another form lives, and counts none that joins later.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress

import msgspec
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.client.bucket import Bucket, Entry, RevisionConflict, RolledBack
from aidevos.durable.hosting.lease import FORGET_AFTER, Lease
from aidevos.settings import SettingsError

log = logging.getLogger(__name__)
# Hosts whose leases one host watches.
WATCHED = 3
# The form in which this version commits: fenced by the turns of a document.
FORM = 1


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """The description that a host gives of itself.

    `since` is the time at which it joined, in seconds since the epoch. `declined` are the partitions by type in which
    it found a state that it can't read. `form` is the form in which it commits. Versions before the first form require
    a field `version`. They can't read this description, say so in one line, and don't count the host.
    """

    service: str
    replica: int
    release: str = ""
    since: float
    types: list[str]
    declined: dict[str, list[int]] = {}
    form: int = 0


_member = msgspec.json.Decoder(Member)


class Membership:
    """The living hosts of the service of `own`, by incarnation.

    `on_change` is called after each change, and `on_lost` with a host that this one has removed.
    """

    def __init__(
        self,
        hosts: Bucket,
        lease: Lease,
        own: Member,
        on_change: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.members: dict[str, Member] = {}
        self.loaded = asyncio.Event()
        self._hosts = hosts
        self._lease = lease
        self._own = own
        self._on_change = on_change
        self._on_lost = on_lost
        self._changed = asyncio.Event()
        self._revisions: dict[str, int] = {}
        self._joined = False

    async def join(self) -> None:
        """Say what this host is."""
        self._joined = True
        await self._write()

    async def leave(self) -> None:
        """Say that this host takes no further partition."""
        self._joined = False
        with suppress(NatsError):
            await self._hosts.delete(self._key_of(self._lease.incarnation), forget_after=FORGET_AFTER)

    async def decline(self, type: str, partition: int) -> None:
        """Say that this host can't serve a partition."""
        declined = {**self._own.declined, type: sorted({*self._own.declined.get(type, ()), partition})}
        self._own = msgspec.structs.replace(self._own, declined=declined)
        pauses = FOLLOWING.pauses()
        while not self._lease.lost.is_set():
            try:
                await self._write()
                return
            except (NatsError, OSError) as error:
                log.warning("declining a partition of %s failed, trying again: %r", type, error)
                await pauses.wait()

    async def is_gone(self, incarnation: str) -> bool:
        """Return True if the lease of an incarnation is gone for good."""
        value, _ = await self._hosts.get(subjects.lease_key(self._own.service, incarnation))
        return value is None

    async def follow(self) -> None:
        """Keep `members` up to date until cancelled."""
        await keep_watching(self._follow_members, self._lease)

    async def follow_leases(self) -> None:
        """Remove the hosts whose leases end, until cancelled."""
        await self.loaded.wait()
        await keep_watching(self._follow_leases, self._lease)

    async def _follow_members(self) -> None:
        found: dict[str, Member] | None = {}
        async with aclosing(self._hosts.watch([f"member.{self._own.service}.*.*"])) as entries:
            async for entry in entries:
                if entry is None:
                    self.members, found = found or {}, None
                    self.loaded.set()
                else:
                    self._note(self.members if found is None else found, entry)
                if found is None:
                    self._changed.set()
                    self._on_change()
                    await self._insist()

    def _note(self, members: dict[str, Member], entry: Entry) -> None:
        incarnation = entry.key.split(".", 2)[2]
        if entry.value is None:
            members.pop(incarnation, None)
            self._revisions.pop(incarnation, None)
            return
        self._revisions[incarnation] = entry.revision
        try:
            member = _member.decode(entry.value)
        except msgspec.DecodeError as error:
            log.error("the host %s describes itself in a way that this version can't read: %s", incarnation, error)
            return
        if member.form == FORM:
            members[incarnation] = member
        else:
            log.error("the host %s has another version that can't run beside this one: stop it", incarnation)

    async def _insist(self) -> None:
        """Say again what this host is if another one has wrongly removed it."""
        if self._joined and self._lease.valid() and self._lease.incarnation not in self.members:
            await self._write()

    async def _follow_leases(self) -> None:
        """Watch the leases of the next hosts in the ring, until the ring changes."""
        watched = self._successors()
        if not watched:
            self._changed.clear()
            await self._changed.wait()
            return
        keys = [subjects.lease_key(self._own.service, each) for each in watched]
        missing = set(watched)
        async with aclosing(self._hosts.watch(keys, until=lambda: self._successors() != watched)) as entries:
            async for entry in entries:
                if entry is None:
                    await self._remove(missing)
                    missing.clear()
                elif entry.value is None:
                    await self._remove({entry.key.split(".", 2)[2]})
                else:
                    missing.discard(entry.key.split(".", 2)[2])

    def _successors(self) -> list[str]:
        ring = sorted({*self.members, self._lease.incarnation})
        start = bisect(ring, self._lease.incarnation)
        return [each for each in (ring[start:] + ring[:start])[:WATCHED] if each != self._lease.incarnation]

    async def _remove(self, incarnations: set[str]) -> None:
        for incarnation in sorted(incarnations):
            key, revision = self._key_of(incarnation), self._revisions.get(incarnation)
            if incarnation in self.members and await self.is_gone(incarnation):
                with suppress(RevisionConflict):
                    await self._hosts.delete(key, revision, forget_after=FORGET_AFTER)
                    self._on_lost(incarnation)

    async def _write(self) -> None:
        if self._joined:
            await self._hosts.put(self._key_of(self._lease.incarnation), msgspec.json.encode(self._own))

    def _key_of(self, incarnation: str) -> str:
        return subjects.member_key(self._own.service, incarnation)


async def serves(hosts: Bucket, type: str) -> bool:
    """Return True if a living host serves a type."""
    for key in await hosts.keys("member."):
        value, _ = await hosts.get(key)
        if value is not None and type in _member.decode(value).types and await _lives(hosts, key):
            return True
    return False


async def check_forms(hosts: Bucket, service: str) -> None:
    """Raise `SettingsError` if a living host of the service commits in another form."""
    async with aclosing(hosts.watch([f"member.{service}.*.*"])) as entries:
        found = {entry.key: entry.value async for entry in _present(entries) if entry.value is not None}
    for key, value in found.items():
        if not _has_own_form(value) and await _lives(hosts, key):
            raise SettingsError(
                f"the host {key.split('.', 2)[2]} has another version that can't run beside this one: "
                f"stop all hosts of {service} first"
            )


async def _present(entries: AsyncIterator[Entry | None]) -> AsyncIterator[Entry]:
    """Yield the entries that a watch begins with."""
    async for entry in entries:
        if entry is None:
            return
        yield entry


def _has_own_form(description: bytes) -> bool:
    try:
        return _member.decode(description).form == FORM
    except msgspec.DecodeError:
        return False


async def _lives(hosts: Bucket, key: str) -> bool:
    """Return True if the host that describes itself under this key has a lease."""
    _, service, incarnation = key.split(".", 2)
    lease, _ = await hosts.get(subjects.lease_key(service, incarnation))
    return lease is not None


async def keep_watching(watch: Callable[[], Awaitable[None]], lease: Lease) -> None:
    """Watch a bucket again and again until cancelled. The lease ends if the bucket was rolled back."""
    pauses = FOLLOWING.pauses()
    while True:
        try:
            await watch()
        except RolledBack as bucket:
            log.error("the bucket %s has lost entries: this host gives up what it owns", bucket)
            lease.end(rolled_back=True)
            return
        except (NatsError, OSError) as error:
            log.warning("a bucket can't be watched, trying again: %r", error)
            await pauses.wait()
