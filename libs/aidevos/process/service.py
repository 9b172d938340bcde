"""The declaration of a service: what one process of it hosts and does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.resources import Need, Resource, needs_of, needs_of_class


@dataclass(frozen=True, eq=False)
class Service:
    """`shop = Service("objects", types=[Cart], resources=[database])`, run by `aidevos serve my_package:shop`.

    `name` is the service's user on NATS, and its objects call others as `service:<name>`. `prepare` runs once per
    process, while it already serves: it is repeated after a `Failure`, and until it has succeeded the service
    reports that it isn't healthy. Each of the `chores` runs until the process ends, and begins again if it returns
    or raises. The parameters of `prepare` and of chores are injected, like those of resources.
    """

    name: str
    types: Sequence[type[BaseDurableObject[Any]]] = ()
    resources: Sequence[Resource[Any]] = ()
    prepare: Callable[..., Awaitable[None]] | None = None
    chores: Sequence[Callable[..., Awaitable[None]]] = ()

    def needs(self) -> list[Need]:
        """Everything that has to be injected, except into the resources themselves."""
        functions = [*self.chores, *([self.prepare] if self.prepare else [])]
        found = [*map(needs_of_class, self.types), *map(needs_of, functions)]
        return [need for needs in found for need in needs]
