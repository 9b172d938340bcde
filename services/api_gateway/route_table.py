"""The table of declared routes: what is stored of each, and how all of them are listed."""

from __future__ import annotations

import msgspec

from aidevos import Failure
from aidevos.contracts.routes import FindRoutes, RouteBody, RouteInfo
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.queries import And, Find

ORDER = ("route", "path")


class RouteState(msgspec.Struct):
    """Times are in seconds since the epoch."""

    route: RouteBody | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


def find(args: FindRoutes) -> Find:
    """What the store is asked for a search: all routes."""
    return Find(And(()), args.limit, ORDER)


def show(id: str, state: RouteState, version: int) -> RouteInfo:
    """The route as it is shown."""
    if state.route is None:
        raise Failure("not-found", "there is no such route")
    return RouteInfo(
        **msgspec.structs.asdict(state.route),
        id=id,
        version=version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )
