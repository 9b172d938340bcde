"""The history of one object, as a client reaches it. Its type must have the option `history`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from aidevos.contracts import objects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import Comparison, DurableObject, VersionPage, VersionState

T = TypeVar("T")


class ObjectHistory:
    """The versions of one object.

    `refer` is `object` of a client. Options are those of its requests. Methods raise `Failure`.
    """

    def __init__(self, refer: Callable[..., Any], type: str, id: str) -> None:
        self._refer = refer
        self._type = type
        self._id = id

    async def list(self, limit: int = 50, cursor: str | None = None, **options: Any) -> VersionPage:
        """Return a page of versions, the newest first and without their states."""
        return await self._ask(objects.VERSIONS, {"limit": limit, "cursor": cursor}, VersionPage, options)

    async def read(self, version: int, **options: Any) -> VersionState:
        """Return one version with its state."""
        return await self._ask(objects.READ_VERSION, {"version": version}, VersionState, options)

    async def compare(self, before: int, after: int | None = None, **options: Any) -> Comparison:
        """Return the JSON patch from one version to another, by default to the state of now."""
        return await self._ask(objects.COMPARE, {"before": before, "after": after}, Comparison, options)

    async def restore(self, version: int, **options: Any) -> DurableObject:
        """Make a version the state of now, as a new version."""
        return await self._ask(objects.RESTORE, {"version": version}, DurableObject, options)

    async def fork(
        self, version: int, id: str | None = None, project: str | None = None, **options: Any
    ) -> DurableObject:
        """Create another object of the type from the state of a version, by default with a new ID.

        Raises `exists` if that object exists already, and `conflict` for a version that is a deletion.
        """
        found = await self.read(version)
        if found.deleted:
            raise Failure("conflict", f"version {version} is the deletion of the object")
        made = self._refer(self._type, id or subjects.new_id(), **options)
        return msgspec.convert(await made._create(state=found.state, project=project), DurableObject)

    async def _ask(self, method: str, args: dict[str, Any], type: type[T], options: dict[str, Any]) -> T:
        method_of_object = getattr(self._refer(self._type, self._id, **options), method)
        return msgspec.convert(await method_of_object(**args), type)
