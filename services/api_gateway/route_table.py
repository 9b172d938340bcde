"""The table of declared routes: the stored state of each route, and their list."""

from __future__ import annotations

import msgspec

from aidevos import Failure
from aidevos.contracts.routes import FindRoutes, RouteBody, RouteInfo
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.queries import And, Find

ORDER = ("route", "path")


class RouteState(msgspec.Struct):
    """The stored state; times are in seconds since the epoch."""

    route: RouteBody | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


def find(args: FindRoutes) -> Find:
    """Return the store's query for all routes."""
    return Find(And(()), args.limit, ORDER)


def show(id: str, state: RouteState, version: int) -> RouteInfo:
    """Return the route's public representation. Raises `not-found`."""
    if state.route is None:
        raise Failure("not-found", "this route doesn't exist")
    return RouteInfo(
        **msgspec.structs.asdict(state.route),
        id=id,
        version=version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )
