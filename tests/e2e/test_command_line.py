"""`aidevos` on a real fleet: as the administrator of this machine, and logged in to it by its URL alone."""

from __future__ import annotations

import asyncio
import io
import json
import queue
import sys
import webbrowser
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx2
import pyotp
import pytest

from aidevos.cli.contexts import changed_contexts, load_contexts
from aidevos.cli.remote import call
from tests.support.browser import Browsers, Page
from tests.support.commands import make_home, run
from tests.support.people import PASSWORD, Person
from tests.support.world import World

Output = pytest.CaptureFixture[str]
Run = Callable[..., Awaitable[str]]


@pytest.fixture
def aidevos(capsys: Output) -> Run:
    """Return a function that runs a command and returns its output."""

    async def run_in_thread(*arguments: str, expected: int = 0) -> str:
        return await asyncio.to_thread(partial(run, capsys, *arguments, expected=expected))

    return run_in_thread


@pytest.fixture
def administrator(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run on the machine of the fleet, without a login."""
    make_home(world, tmp_path, monkeypatch)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run on a machine without a fleet."""
    monkeypatch.setenv("AIDEVOS_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


async def log_in(aidevos: Run, world: World, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(PASSWORD + "\n"))
    await aidevos("login", world.url, "-u", person.name, "--password-stdin", "--name", "shop")


async def test_an_object_is_called_shown_listed_counted_and_deleted(
    administrator: None, aidevos: Run, new_id: str
) -> None:
    id = f"counter:{new_id}"
    before = int(await aidevos("objects", "count", "counter"))

    assert await aidevos("objects", "call", id, "increment", "by=2") == "2"
    assert await aidevos("objects", "call", id, "increment", "--request-id", "once") == "3"
    assert await aidevos("objects", "call", id, "increment", "--request-id", "once") == "3"
    assert json.loads(await aidevos("objects", "get", id, "--json"))["state"] == {"value": 3}
    assert id in await aidevos("objects", "list", "counter", "--limit", "0")
    assert int(await aidevos("objects", "count", "counter")) == before + 1
    assert int(await aidevos("objects", "count")) > before
    await aidevos("objects", "call", id, "increment", "--if-match", "1", expected=6)
    await aidevos("objects", "call", id, "increment", "by=many", expected=2)
    await aidevos("objects", "call", id, "fly", expected=5)
    await aidevos("objects", "history", id, expected=5)
    await aidevos("objects", "delete", id, "--yes")
    await aidevos("objects", "get", id, expected=5)


async def test_events_are_shown_as_they_happen(administrator: None, aidevos: Run, new_id: str) -> None:
    options = ["--type", "chat_room", "--id", new_id, "-n", "1", "--json"]
    following = asyncio.create_task(aidevos("events", "tail", *options))
    async with asyncio.timeout(60):
        while not following.done():
            await asyncio.to_thread(post, f"chat_room:{new_id}")
            await asyncio.wait([following], timeout=0.1)

    event = json.loads(following.result())
    assert (event["type"], event["data"]["source"]) == ("chat_room.posted", f"/durable-objects/chat_room:{new_id}")


def post(room: str) -> None:
    """Post a message without any output, which is that of the command that follows."""
    body = {"method": "post", "args": {"text": "hello"}}
    call(lambda api: api.call("POST", f"/durable-objects/{room}/request", body=body))


async def test_the_fleet_describes_itself(administrator: None, aidevos: Run) -> None:
    hosts = json.loads(await aidevos("fleet", "--json"))
    assert {"objects", "authentication"} <= {host["service"] for host in hosts}
    assert "AIDEVOS_PUBLIC_URL" in await aidevos("settings", "--fleet")
    assert json.loads(await aidevos("openapi"))["openapi"].startswith("3.1")
    assert "access_token" in await aidevos("openapi", "--internal")
    assert json.loads(await aidevos("asyncapi"))["asyncapi"].startswith("3.")


async def test_a_login_elsewhere_works_until_the_logout(
    elsewhere: None,
    world: World,
    person: Callable[[], Awaitable[Person]],
    aidevos: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = await person()
    await aidevos("objects", "list", expected=1)
    await log_in(aidevos, world, ada, monkeypatch)

    assert json.loads(await aidevos("context", "show", "--json")) == {
        "context": "shop",
        "url": world.url,
        "user": ada.name,
    }
    first = await aidevos("token")
    await aidevos("fleet", expected=4)
    with changed_contexts() as stored:
        stored.contexts["shop"].expires_at = 0.0
    second = await aidevos("token")
    assert first != second
    await aidevos("logout")

    await aidevos("objects", "list", expected=1)
    monkeypatch.setenv("AIDEVOS_URL", world.url)
    monkeypatch.setenv("AIDEVOS_TOKEN", second)
    await aidevos("objects", "list", "counter", expected=4)
    assert load_contexts().contexts["shop"].refresh_token == ""


async def test_a_wrong_password_stores_nothing(
    elsewhere: None,
    world: World,
    person: Callable[[], Awaitable[Person]],
    aidevos: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = await person()
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))

    await aidevos("login", world.url, "-u", ada.name, "--password-stdin", expected=4)
    assert load_contexts().contexts == {}


async def test_a_login_in_the_browser_takes_the_second_factor_too(
    elsewhere: None,
    world: World,
    http: httpx2.AsyncClient,
    person: Callable[[], Awaitable[Person]],
    aidevos: Run,
    browsers: Browsers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = await person()
    recovery_code = await require_second_factor(http, ada)
    opened: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(webbrowser, "open", opened.put)
    browser = await asyncio.to_thread(browsers.open)
    try:
        logging_in = asyncio.create_task(aidevos("login", world.url, "--browser", "--name", "shop"))
        url = await asyncio.to_thread(opened.get, timeout=30)
        await asyncio.to_thread(log_in_on_page, Page(browser, url), ada.name, recovery_code)
        await asyncio.wait_for(logging_in, 30)
    finally:
        browser.quit()

    assert json.loads(await aidevos("context", "show", "--json"))["user"] == ada.name
    assert await aidevos("token")


async def require_second_factor(http: httpx2.AsyncClient, who: Person) -> str:
    """Let logins of this person require a second factor, and return a recovery code."""
    begun = await http.post("/auth/mfa/totp", headers=who.headers, json={"password": PASSWORD})
    code = pyotp.TOTP(begun.json()["secret"]).now()
    confirmed = await http.post("/auth/mfa/totp/confirm", headers=who.headers, json={"otp": code})
    return str(confirmed.json()["recovery_codes"][0])


def log_in_on_page(page: Page, username: str, code: str) -> None:
    page.at("username").send_keys(username)
    page.at("password").send_keys(PASSWORD)
    page.at("go").click()
    page.until(lambda: page.at("code").is_displayed())
    page.at("code").send_keys(code)
    page.at("go").click()
    page.until(lambda: page.browser.title == "Logged in")
    assert page.complaints == []


async def test_a_token_of_the_environment_calls_without_any_login(
    elsewhere: None, world: World, aidevos: Run, new_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDEVOS_URL", world.url)
    monkeypatch.setenv("AIDEVOS_TOKEN", world.token("objects:request", "counter:write").removeprefix("Bearer "))

    assert await aidevos("objects", "call", f"counter:{new_id}", "increment") == "1"
    await aidevos("objects", "get", f"counter:{new_id}", expected=4)
