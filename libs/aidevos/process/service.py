"""The declaration of a service: the object types and the work of each of its processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.resources import Need, Resource, needs_of, needs_of_class


@dataclass(frozen=True, eq=False)
class Service:
    """A service, such as `shop = Service("objects", types=[Cart], resources=[database])`.

    `aidevos serve my_package:shop` runs it. `name` is the service's user on NATS, and its objects call others as
    `service:<name>`. `prepare` runs once per process, which already serves meanwhile. It is repeated until it
    succeeds, and the service reports that it isn't healthy until then. Each of the `chores` runs until the process
    ends, and is restarted if it returns or raises. The parameters of `prepare` and of chores are injected, like those
    of resources. `tasks` names the kinds of tasks that its chores do, for operators.
    """

    name: str
    types: Sequence[type[BaseDurableObject[Any]]] = ()
    resources: Sequence[Resource[Any]] = ()
    prepare: Callable[..., Awaitable[None]] | None = None
    chores: Sequence[Callable[..., Awaitable[None]]] = ()
    tasks: Sequence[str] = ()

    def needs(self) -> list[Need]:
        """Return everything that must be injected into the types, chores and `prepare`."""
        functions = [*self.chores, *([self.prepare] if self.prepare else [])]
        found = [*map(needs_of_class, self.types), *map(needs_of, functions)]
        return [need for needs in found for need in needs]
