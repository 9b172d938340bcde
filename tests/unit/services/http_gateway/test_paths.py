"""The index of paths finds the same route as trying all routes in order."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.routing import Match, Route

from aidevos.contracts.errors import Failure
from services.http_gateway.http.paths import Paths

SHAPES = st.lists(
    st.lists(st.sampled_from(["a", "b", "", None]), min_size=1, max_size=4).map(tuple), max_size=8, unique=True
)
PATHS = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=5)


class Endpoint:
    """Notes the scope of each request that reaches it."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)


def path_of(shape: tuple[str | None, ...]) -> str:
    return "".join(f"/{{v{number}}}" if part is None else f"/{part}" for number, part in enumerate(shape))


def precedence(shape: tuple[str | None, ...]) -> list[bool]:
    return [part is None for part in shape]


@given(SHAPES, PATHS)
@example([("a", "b"), ("a", None), (None, "b")], ["a", "b"])
@example([("a", "b"), (None, "c")], ["a", "c"])
@example([("a",)], ["a", ""])
async def test_a_path_gets_the_first_route_that_matches_with_literals_before_variables(
    shapes: list[tuple[str | None, ...]], segments: list[str]
) -> None:
    endpoint, default = Endpoint(), Endpoint()
    routes = [Route(path_of(shape), endpoint) for shape in sorted(shapes, key=precedence)]
    scope: dict[str, Any] = {"type": "http", "path": "/" + "/".join(segments), "method": "GET"}
    matches = [(route, found) for route in routes for match, found in [route.matches(scope)] if match is Match.FULL]

    # A path that is there without the slash at its end says so.
    bare = scope | {"path": scope["path"].removesuffix("/")}
    refused = not matches and bare != scope and any(route.matches(bare)[0] is Match.FULL for route in routes)
    with pytest.raises(Failure, match="without the slash") if refused else nullcontext():
        await Paths(reversed(routes), default)(dict(scope), None, None)  # type: ignore[arg-type]
    if refused:
        return
    if not matches:
        assert (len(endpoint.scopes), len(default.scopes)) == (0, 1)
    else:
        (reached,) = endpoint.scopes
        assert (reached["route"], reached["path_params"]) == (matches[0][0], matches[0][1]["path_params"])


async def test_of_routes_with_one_shape_the_first_counts() -> None:
    first, second, default = Endpoint(), Endpoint(), Endpoint()

    await Paths([Route("/a/{x}", first), Route("/a/{y}", second)], default)({"path": "/a/1"}, None, None)  # type: ignore[arg-type]

    assert [scope["path_params"] for scope in first.scopes] == [{"x": "1"}]
    assert not second.scopes
