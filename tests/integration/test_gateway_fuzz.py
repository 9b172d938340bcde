"""For any input, each answer is documented and no 5xx comes from the gateway itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support import ndjson  # noqa: F401
from tests.support.gateway_world import World, gateway_world
from tests.support.http import blocking_http_client
from tests.support.kits import examples
from tests.support.servers import Servers

SOME = settings(examples(150), suppress_health_check=list(HealthCheck))
FEW = settings(examples(12), suppress_health_check=list(HealthCheck))
PATHS = ["/durable-objects", "/durable-objects/counter:c/request", "/durable-objects/counter:c"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMED = ["Idempotency-Key", "If-Match", "If-None-Match", "traceparent", "X-Request-Id", "Content-Type", "Authorization"]
LATIN = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
VALUES = st.text(LATIN, max_size=40).map(str.strip)
WORDS = st.text(st.characters(codec="utf-8"), max_size=8)


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(gateway_world(servers, default_deadline=3.0, attempt_timeout=1.0)) as world,
    ):
        yield world


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx2.Client]:
    with blocking_http_client(base_url=world.url, headers=world.authorized("admin"), timeout=30) as client:
        yield client


def assert_sane(answer: httpx2.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-request-id"]
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@SOME
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]),
    path=st.lists(st.sampled_from(["durable-objects", "counter:c", "request", "health", "ready"]) | WORDS, max_size=4),
    query=st.dictionaries(st.sampled_from(["type", "limit", "cursor"]) | WORDS, WORDS, max_size=2),
    headers=st.dictionaries(st.sampled_from(NAMED), VALUES, max_size=3),
    body=st.binary(max_size=60),
)
def test_no_request_breaks_it(
    client: httpx2.Client, method: str, path: list[str], query: dict[str, str], headers: dict[str, str], body: bytes
) -> None:
    sent = httpx2.Headers({**client.headers, **headers}, encoding="latin-1")

    raw = "/" + "/".join(quote(part, safe="%") for part in path)
    url = client.base_url.copy_with(raw_path=f"{raw}?{urlencode(query)}".encode())

    answer = client.request(method, url, headers=sent, content=body)

    assert_sane(answer)


@SOME
@given(body=JSON, path=st.sampled_from(PATHS))
def test_no_json_breaks_it(client: httpx2.Client, body: Any, path: str) -> None:
    answer = client.request("PUT" if path.endswith(":c") else "POST", path, content=json.dumps(body).encode())

    assert_sane(answer)


# A call of an object that no process serves is refused only after its deadline, and with more examples there are many.
@pytest.mark.timeout(400)
def test_every_answer_is_as_described(client: httpx2.Client, world: World) -> None:
    # No schema says which cursors are valid or which objects exist.
    described = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    # Nothing else is served here; the tests of the real services cover the rest.
    description = described.include(tag=["objects", "operation"])
    for operation in description.get_all_operations():

        @FEW
        @given(case=operation.ok().as_strategy())
        def answers_as_described(case: schemathesis.Case) -> None:
            # A deadline of one millisecond is valid, and rightly missed.
            case.headers.pop("Deadline", None)
            case.call_and_validate(
                base_url=world.url, headers=world.authorized("admin"), excluded_checks=[positive_data_acceptance]
            )

        answers_as_described()
