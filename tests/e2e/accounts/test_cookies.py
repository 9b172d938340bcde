"""Browser sessions: tokens in cookies, and protection from cross-site requests."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx2
import pytest

from aidevos.contracts.errors import Failure
from aidevos.settings import load
from services.http_gateway.http.cookies import Cookies
from tests.support.browser_sessions import SAME_ORIGIN, Browser, login
from tests.support.http import http_client
from tests.support.people import PASSWORD
from tests.support.world import World


def cookies(answer: httpx2.Response) -> dict[str, Morsel[str]]:
    found: SimpleCookie = SimpleCookie()
    for value in answer.headers.get_list("set-cookie"):
        found.load(value)
    return dict(found)


@pytest.fixture
def person() -> dict[str, str]:
    name = f"ada{secrets.token_hex(6)}"
    return {"username": name, "email": f"{name}@example.org", "password": PASSWORD}


@pytest.fixture
async def browser(world: World, person: dict[str, str]) -> AsyncIterator[Browser]:
    async with http_client(base_url=world.url, timeout=20) as client:
        await client.post("/auth/register", json=person)
        yield Browser(client, await login(client, person))


async def test_no_script_sees_a_token_and_no_other_site_gets_a_cookie(browser: Browser) -> None:
    body: dict[str, Any] = browser.login.json()
    found = cookies(browser.login)

    assert set(body) == {"token_type", "expires_in", "csrf_token", "user", "must_enrol"}
    assert set(found) == {"aidevos_access", "aidevos_refresh", "aidevos_csrf"}
    assert all(cookie["samesite"] == "Strict" and cookie["path"] == "/" for cookie in found.values())
    assert not any(cookie["domain"] for cookie in found.values())
    assert [name for name, cookie in found.items() if not cookie["httponly"]] == ["aidevos_csrf"]
    assert found["aidevos_csrf"].value == body["csrf_token"]
    assert browser.login.headers["cache-control"] == "no-store"


async def test_a_page_reads_with_cookies_and_changes_with_the_token(browser: Browser) -> None:
    assert (await browser.http.get("/auth/me")).status_code == 200
    assert await browser.change_name(browser.own) == 200
    assert await browser.change_name({"X-CSRF-Token": browser.own["X-CSRF-Token"], "Origin": origin(browser)}) == 200


@pytest.mark.parametrize(
    "change",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "A" * 43},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": ""},
    ],
    ids=str,
)
async def test_another_site_changes_nothing(browser: Browser, change: dict[str, str]) -> None:
    headers = {name: value for name, value in {**browser.own, **change}.items() if value}

    assert await browser.change_name(headers) == 403
    assert (await browser.http.get("/users/me")).json()["full_name"] == ""


async def test_another_session_s_token_is_none(browser: Browser, person: dict[str, str]) -> None:
    stale = browser.own
    again = Browser(browser.http, await login(browser.http, person))

    assert await again.change_name(stale) == 403
    assert await again.change_name(again.own) == 200


async def test_two_credentials_at_once_are_refused(browser: Browser, world: World) -> None:
    answer = await browser.http.get("/auth/me", headers={"Authorization": world.admin})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


async def test_a_bearer_token_needs_neither_origin_nor_csrf_token(
    world: World, browser: Browser, person: dict[str, str]
) -> None:
    async with http_client(base_url=world.url, timeout=20) as client:
        pair = (await client.post("/auth/login", json={"username": person["username"], "password": PASSWORD})).json()
        headers = {"Authorization": f"Bearer {pair['access_token']}", "Sec-Fetch-Site": "cross-site"}

        answer = await client.put("/users/me", json={"full_name": "Ada"}, headers=headers)

    assert answer.status_code == 200


async def test_a_refresh_by_cookie_needs_the_token_and_keeps_it(browser: Browser) -> None:
    refused = await browser.http.post("/auth/refresh", headers=SAME_ORIGIN)
    both = await browser.http.post("/auth/refresh", headers=browser.own, json={"refresh_token": "a.0.b"})
    answer = await browser.http.post("/auth/refresh", headers=browser.own)

    assert (refused.status_code, both.status_code, answer.status_code) == (403, 400, 200)
    assert cookies(answer)["aidevos_refresh"].value != cookies(browser.login)["aidevos_refresh"].value
    assert answer.json()["csrf_token"] == browser.login.json()["csrf_token"]
    assert await browser.change_name(browser.own) == 200


async def test_a_logout_takes_the_cookies_away(browser: Browser) -> None:
    answer = await browser.http.post("/auth/logout", headers=browser.own)

    assert answer.status_code == 204
    assert {name: cookie["max-age"] for name, cookie in cookies(answer).items()} == dict.fromkeys(
        ("aidevos_access", "aidevos_refresh", "aidevos_csrf"), "0"
    )
    assert not browser.http.cookies
    assert (await browser.http.get("/auth/me")).status_code == 401


async def test_a_page_whose_access_token_has_expired_is_told_so_where_others_are_anonymous(browser: Browser) -> None:
    path = "/data/collections/nothing-here/config"
    browser.http.cookies.delete("aidevos_access")
    expired = await browser.http.get(path)
    renewed = await browser.http.post("/auth/refresh", headers=browser.own)

    assert (expired.status_code, renewed.status_code) == (401, 200)
    assert (await browser.http.get(path)).status_code == 404


async def test_the_cookies_of_a_session_that_has_ended_are_taken_away(browser: Browser) -> None:
    kept = dict(browser.http.cookies)
    await browser.http.post("/auth/logout", headers=browser.own)
    browser.http.cookies.update(kept)
    refused = await browser.http.post("/auth/refresh", headers=browser.own)

    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert {name: cookie["max-age"] for name, cookie in cookies(refused).items()} == dict.fromkeys(
        ("aidevos_access", "aidevos_refresh", "aidevos_csrf"), "0"
    )


async def test_another_site_can_t_log_a_browser_in(browser: Browser, person: dict[str, str]) -> None:
    answer = await login(browser.http, person, **{"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert not cookies(answer)


def test_with_tls_a_page_without_it_is_another_origin(world: World) -> None:
    own = Cookies(load({"AIDEVOS_PUBLIC_URL": "https://api.example.org"}, home=world.servers.home))

    for name in (b"api.example.org", b"api.internal"):
        own.check_origin({b"host": name, b"origin": b"https://" + name})
        with pytest.raises(Failure, match="same origin"):
            own.check_origin({b"host": name, b"origin": b"http://" + name})


async def test_what_a_browser_keeps_of_an_answer_it_asks_for_again(browser: Browser) -> None:
    for path in ("/users/me", "/auth/sessions", "/api-keys"):
        answer = await browser.http.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")


def test_with_tls_the_cookies_are_bound_to_host_and_tls(world: World) -> None:
    settings = load({"AIDEVOS_PUBLIC_URL": "https://api.example.org"}, home=world.servers.home)

    headers = [value.decode() for _, value in Cookies(settings).clear()]

    assert all(value.startswith("__Host-aidevos_") and value.endswith("; Secure") for value in headers)


@pytest.mark.parametrize(
    ("url", "possible"),
    [
        ("http://192.0.2.1", False),
        ("http://api.example.org", False),
        ("http://localhost", True),
        ("http://[::1]:80", True),
    ],
)
def test_without_tls_there_are_cookies_on_loopback_alone(world: World, url: str, possible: bool) -> None:
    own = Cookies(load({"AIDEVOS_PUBLIC_URL": url}, home=world.servers.home))

    if possible:
        own.check_tls()
    else:
        with pytest.raises(Failure, match="AIDEVOS_PUBLIC_URL"):
            own.check_tls()


def origin(browser: Browser) -> str:
    return str(browser.http.base_url).rstrip("/")
