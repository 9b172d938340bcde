"""Access to an object's history: the versions in its document and those in the collection of its type.

Promise: a version is in the collection before it leaves the document, and is written there under its object and number.
Moving it twice changes nothing. Only committed versions are moved. A turn sees the versions up to its own object's
version, and none of a history that has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ObjectVersion
from aidevos.contracts.times import timestamp
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.objects.registry import NewerSchema
from aidevos.durable.store.port import Store, StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.effects import Effects
from aidevos.durable.turns.history import History, Version, describe

log = logging.getLogger(__name__)
BACKOFF = Backoff(0.1, 10.0)
T = TypeVar("T")


async def move_versions(store: Store, activation: Activation, history: History, owns: Callable[[], bool]) -> None:
    """Move committed versions from the document to the collection, and remove what isn't kept any more.

    It tries again until it has succeeded or the object has left memory.
    """
    if history.moving:
        return
    pauses = BACKOFF.pauses()
    history.moving = True
    try:
        while not activation.broken and owns():
            latest = activation.committed.version
            versions, lowest = history.movable(latest), history.lowest(latest)
            kept = [
                (each.number, each.to_document(), _end(each, history)) for each in versions if each.number >= lowest
            ]
            try:
                await store.keep_versions(activation.type.name, activation.id, kept, lowest)
            except StoreError as error:
                log.warning("%s: moving versions failed, trying again: %s", activation.object_id, error)
                await pauses.wait()
            else:
                history.leave(versions, lowest)
                return
    finally:
        history.moving = False


def _end(version: Version, history: History) -> Any:
    age = history.kept.age
    return None if age is None else timestamp(version.at + age)


class TurnVersions:
    """The history as a turn reaches it. It implements `Versions` for the object's methods."""

    def __init__(
        self, activation: Activation, effects: Effects, store: Store, only_in_command: Callable[[str], None]
    ) -> None:
        if activation.history is None:
            name = activation.type.cls.__name__
            raise RuntimeError(f"{name} keeps no history: write class {name}(…, history=100)")
        self._activation = activation
        self._history: History = activation.history
        self._effects = effects
        self._store = store
        self._only_in_command = only_in_command

    async def list(self, before: int | None = None, limit: int = 50) -> list[ObjectVersion]:
        latest = self._activation.version
        last = latest if before is None else min(latest, before - 1)
        lowest = self._history.lowest(latest)
        # What leaves the document meanwhile is in this copy already.
        own = {number: each.to_document() for number, each in self._history.entries.items() if lowest <= number <= last}
        found = await self._read(lowest, last, limit, with_state=False) | own
        kept = [number for number in sorted(found, reverse=True) if self._is_kept(number, found[number])]
        return [describe(number, found[number]) for number in kept[:limit]]

    async def describe(self, version: int) -> ObjectVersion:
        return describe(version, (await self._find(version)).to_document())

    async def read(self, version: int) -> Any:
        found = await self._find(version)
        try:
            return self._activation.type.load_state(found.decode(), found.schema)
        except (Failure, NewerSchema):
            raise
        except msgspec.ValidationError as error:
            raise Failure("conflict", f"today's type can't read the state of version {version}: {error}") from None

    async def restore(self, version: int) -> None:
        self._only_in_command("restore a version")
        state = await self.read(version)
        if not self._activation.exists:
            self._effects.continues = True
        self._activation.state = state

    async def forget(self) -> None:
        self._only_in_command("forget versions")
        activation, history = self._activation, self._history
        if history.moving:
            raise Failure("unavailable", "versions are being moved; try again")
        self._effects.forgets = True
        await self._try(self._store.keep_versions(activation.type.name, activation.id, [], activation.version + 1))

    async def _find(self, version: int) -> Version:
        activation, history = self._activation, self._history
        lowest, missing = history.lowest(activation.version), f"version {version} isn't kept"
        if not lowest <= version <= activation.version:
            raise Failure("not-found", missing)
        found = history.entries.get(version)
        if found is None:
            document = (await self._read(version, version, 1, with_state=True)).get(version)
            if document is None or not self._is_kept(version, document):
                raise Failure("not-found", missing)
            found = Version.from_document(version, document)
        elif not self._is_kept(version, found.to_document()):
            raise Failure("not-found", missing)
        return found

    def _is_kept(self, number: int, document: dict[str, Any]) -> bool:
        is_newest = number == self._activation.version
        return is_newest or self._history.is_current(document["t"], self._effects.now)

    async def _read(self, first: int, last: int, limit: int, *, with_state: bool) -> dict[int, dict[str, Any]]:
        if not self._history.moved or first > last:
            return {}
        activation = self._activation
        name, id = activation.type.name, activation.id
        return await self._try(self._store.read_versions(name, id, first, last, limit, with_state=with_state))

    async def _try(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except StoreError as error:
            raise Failure("unavailable", f"the history can't be reached: {error}") from error
