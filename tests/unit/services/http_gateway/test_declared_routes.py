"""Declared routes in the gateway alone: reserved paths, the answer cache, and requests before the routes are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts import routes
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import MethodDescription
from aidevos.security.permissions import Principal
from aidevos.settings import load
from services.http_gateway import bootstrap, response_cache
from services.http_gateway.catalogue import Method, TypeCatalogue
from services.http_gateway.declared_routes import DeclaredRoutes, RouteTable
from services.http_gateway.description.openapi import describe
from services.http_gateway.forwarder import Forwarder
from services.http_gateway.http.responses import HttpResponse
from services.http_gateway.response_cache import ResponseCache, identity

NOTHING: Any = None
SEGMENT = st.from_regex(r"[A-Za-z0-9._~-]{1,8}", fullmatch=True)


def described(arguments: dict[str, Any], **defs: Any) -> Method:
    said = MethodDescription(name="m", kind="query", doc="", allow="x:y", args={"properties": arguments}, result={})
    return Method(said, defs)


def own_paths(tmp_path: Path) -> list[str]:
    """Return the paths of the gateway's own routing table."""
    settings, catalogue, table = load({}, home=tmp_path), TypeCatalogue(NOTHING), RouteTable(is_awaited=False)
    forwarder = Forwarder(NOTHING, NOTHING, settings)
    unused = [NOTHING] * 4
    app: Any = bootstrap.build(settings, NOTHING, forwarder, catalogue, NOTHING, NOTHING, table, *unused)
    return [route.path for route in app._app.routes]


def test_no_declared_route_can_take_a_path_of_the_gateway_s_own(tmp_path: Path) -> None:
    # No declared route is `/` itself.
    assert {path.split("/")[1] for path in own_paths(tmp_path)} - {""} <= routes.RESERVED


def test_every_path_of_the_gateway_s_own_is_described(tmp_path: Path) -> None:
    described = {routes.shape(path) for path in describe([])["paths"]}

    # The files that the page `/docs` loads, the documentation as text, and the console don't belong to the API.
    undescribed = {routes.shape(path) for path in own_paths(tmp_path)} - described
    assert {path for path in undescribed if not path.startswith(("/console", "/docs/"))} == set()


async def test_while_routes_are_awaited_nobody_is_told_that_a_path_is_not_there(tmp_path: Path) -> None:
    declarations = RouteTable(is_awaited=True)
    app = DeclaredRoutes(
        declarations, TypeCatalogue(NOTHING), NOTHING, NOTHING, NOTHING, NOTHING, load({}, home=tmp_path)
    )

    async def code(path: str) -> str:
        with pytest.raises(Failure) as failed:
            await app({"type": "http", "path": path, "method": "GET"}, NOTHING, NOTHING)
        return failed.value.code

    assert [await code("/shop"), await code("/users/a/b"), await code("/")] == [
        "unavailable",
        "not-found",
        "unavailable",
    ]
    declarations.set([])
    assert await code("/shop") == "not-found"


def test_the_cache_forgets_what_is_too_old_and_what_was_used_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_cache, "MAX_ENTRIES", 2)
    now = [0.0]
    cache = ResponseCache(lambda: now[0])
    a, b, c = (HttpResponse(200, name.encode()) for name in "abc")
    cache.put("a", a, 10)
    cache.put("b", b, 5)
    assert cache.get("a") == a
    cache.put("c", c, 10)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (a, None, c)
    now[0] = 10.0
    assert (cache.get("a"), cache.get("c")) == (None, None)


def test_the_cache_is_bounded_in_bytes_and_keeps_no_answer_that_would_empty_it() -> None:
    cache = ResponseCache(lambda: 0.0)
    large = HttpResponse(200, b"x" * (response_cache.MAX_RESPONSE - 2 * response_cache.OVERHEAD))
    for number in range(40):
        cache.put(number, large, 10)
    cache.put("huge", HttpResponse(200, b"x" * response_cache.MAX_RESPONSE), 10)
    cache.put("arguments", HttpResponse(200, b"x"), 10, weight=response_cache.MAX_RESPONSE)

    kept = [number for number in range(40) if cache.get(number)]
    assert 12 <= len(kept) <= 16
    assert kept[-1] == 39
    assert (cache.get("huge"), cache.get("arguments")) == (None, None)


def test_the_identity_of_a_caller_changes_with_its_rights() -> None:
    callers = [
        Principal("ada", ("user",), frozenset({"a:b"})),
        Principal("bob", ("user",), frozenset({"a:b"})),
        Principal("ada", ("user",), frozenset()),
        Principal("ada", ("user",), frozenset({"a:b"}), key="k"),
        Principal("ada", ("user",), frozenset({"a:b"}), narrowed=frozenset({("c:d", "id", "x")})),
    ]

    assert len({identity(caller) for caller in callers}) == len(callers)
    assert identity(callers[0]) == identity(Principal("ada", ("user",), frozenset({"a:b"}), 99.0, "session"))


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": ["number", "null"]}, "-2.5e3", -2500.0),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true", True),
        ({"$ref": "#/$defs/N"}, "7", 7),
        ({"type": "integer"}, "three", "three"),
        ({"type": "integer"}, "[1]", "[1]"),
        ({"type": "integer"}, "null", "null"),
        ({"type": ["array", "null"]}, '["a", 1]', ["a", 1]),
        ({"type": "array"}, "a,b", "a,b"),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": "string"}, "3", "3"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "3", "3"),
        ({}, "3", "3"),
    ],
)
def test_text_becomes_the_number_that_is_declared(schema: dict[str, Any], text: str, value: Any) -> None:
    method = described({"by": schema}, N={"type": "integer"})

    assert method.convert("by", text) == value
    assert type(method.convert("by", text)) is type(value)


def test_schemas_that_refer_to_each_other_end() -> None:
    assert (
        described({"by": {"$ref": "#/$defs/A"}}, A={"$ref": "#/$defs/B"}, B={"$ref": "#/$defs/A"}).convert("by", "3")
        == "3"
    )


@given(st.lists(SEGMENT | st.none(), min_size=1, max_size=6), st.sampled_from(["GET", "POST"]))
def test_routes_that_take_the_same_requests_are_one_object(segments: list[str | None], method: str) -> None:
    def spelled(prefix: str) -> str:
        return "".join(f"/{{{prefix}{n}}}" if part is None else f"/{part}" for n, part in enumerate(segments))

    one, other = spelled("a"), spelled("b")

    assert routes.route_id(method, one) == routes.route_id(method, other)
    assert routes.route_id("PUT", one) != routes.route_id(method, one) != routes.route_id(method, one + "/x")
    assert routes.variables(one) == [f"a{n}" for n, part in enumerate(segments) if part is None]
