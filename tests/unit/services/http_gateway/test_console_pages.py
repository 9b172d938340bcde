"""The files of the console, as browsers get them."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from services.http_gateway.console_pages import Console
from services.http_gateway.http.paths import Paths
from services.http_gateway.middleware.responses import ResponseMiddleware


@pytest.fixture
def console() -> httpx2.AsyncClient:
    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["path"])

    app = ResponseMiddleware(Paths(Console().routes(), default=elsewhere), "http://127.0.0.1")
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://gateway")


@pytest.mark.parametrize("path", ["", "/", "/users", "/objects/counter:a%20b", "/data/books/?filter={}"])
async def test_each_path_shows_the_page_which_may_load_only_its_own_files(
    console: httpx2.AsyncClient, path: str
) -> None:
    answer = await console.get(f"/console{path}")

    assert answer.status_code == 200
    assert '<div id="app">' in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_hashed_files_are_compressed_and_kept_for_ever(console: httpx2.AsyncClient) -> None:
    page = (await console.get("/console")).text
    for path in re.findall(r'(?:src|href)="(/console/assets/[^"]+)"', page):
        answer = await console.get(path, headers={"Accept-Encoding": "gzip"})
        plain = await console.get(path, headers={"Accept-Encoding": "identity"})

        assert answer.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert answer.content == plain.content
        assert "immutable" in answer.headers["cache-control"]
    assert (await console.get("/console/assets/other.js")).status_code == 404


async def test_what_is_not_modified_keeps_its_policy(console: httpx2.AsyncClient) -> None:
    first = await console.get("/console")
    again = await console.get("/console", headers={"If-None-Match": first.headers["etag"]})

    assert again.status_code == 304
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert "content-type" not in again.headers


async def test_nothing_can_be_sent_to_the_page(console: httpx2.AsyncClient) -> None:
    answer = await console.post("/console")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
