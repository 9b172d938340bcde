"""The client for TypeScript in Node.js and in a real browser."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Remote
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browser import Browsers, forget
from tests.support.http import blocking_http_client
from tests.support.people import PASSWORD
from tests.support.world import World
from tools.typescript_client import SOURCE, bundle

# Runs an asynchronous function of the client's module in a page, which gets the arguments.
SCRIPT = """
const done = arguments[arguments.length - 1];
import("/client.js").then(module => (%s)(module, ...arguments)).then(
  value => done({ value }), error => done({ error: `${error.name}: ${error.code ?? error.stack}` }));
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def username(world: World) -> str:
    """Register an administrator and return the name."""
    name = f"u{secrets.token_hex(6)}"
    person = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    with blocking_http_client(base_url=world.url, timeout=20, headers={"Authorization": world.admin}) as http:
        made = http.post("/auth/register", json=person).raise_for_status().json()
        http.put(f"/users/{made['id']}", json={"roles": ["admin"]}).raise_for_status()
    return name


@pytest.fixture(scope="module")
def bundled() -> None:
    """Build the client's modules."""
    bundle()


@pytest.fixture(scope="module")
def browser(world: World, browsers: Browsers) -> Iterator[Remote]:
    opened = browsers.open()
    opened.set_script_timeout(60)
    yield opened
    opened.quit()


@pytest.fixture
def run(world: World, browser: Remote) -> Callable[..., Any]:
    """Open a page of the gateway in a new browser, and return a function that runs scripts there."""
    forget(browser)
    # The page's own policy lets it load the client and call the gateway. It is a small one, which loads fast.
    browser.get(f"{world.url}/examples/chat")

    def run(function: str, *arguments: Any) -> Any:
        found = browser.execute_async_script(SCRIPT % function, *arguments)
        assert "error" not in found, found["error"]
        return found.get("value")

    return run


@pytest.mark.usefixtures("bundled")
def test_the_client_works_in_node(world: World, username: str) -> None:
    own = {"AIDEVOS_URL": world.url, "AIDEVOS_TOKEN": world.admin.removeprefix("Bearer ")}
    environment = {**os.environ, **own, "USERNAME": username, "PASSWORD": PASSWORD}
    ended = subprocess.run(["npm", "test"], cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=200)

    if ended.returncode:
        pytest.fail(ended.stdout + ended.stderr, pytrace=False)


def test_a_page_logs_in_with_cookies_that_no_script_sees(run: Callable[..., Any], username: str) -> None:
    shown = run(
        """async ({ connect }, username, password) => {
            const client = connect();
            const session = await client.auth.login({ username, password });
            const value = await client.objects.counter(username).increment({ by: 2 });
            return [Object.keys(session).sort(), document.cookie, value, (await connect().auth.me()).user.username];
        }""",
        username,
        PASSWORD,
    )

    assert shown[0] == ["csrf_token", "expires_in", "must_enrol", "token_type", "user"]
    assert "aidevos_csrf=" in shown[1]
    assert "access" not in shown[1]
    assert shown[2:] == [2, username]


def test_a_page_renews_its_session_and_stays_logged_in(run: Callable[..., Any], browser: Remote, username: str) -> None:
    run("({ connect }, username, password) => connect().auth.login({ username, password })", username, PASSWORD)
    run("({ connect }) => connect().data.collection('of-ts-page').put('dune', {}, { create: true })")
    browser.delete_cookie("aidevos_access")
    # Without its session, the page would be told that there is no such item.
    found = run(
        """async ({ connect }) => {
            const books = connect().data.collection("of-ts-page");
            return Promise.all([1, 2, 3].map(() => books.get("dune").then(item => item.id)));
        }"""
    )
    after = run(
        """async ({ connect }) => {
            const client = connect();
            await client.auth.logout();
            return client.auth.me().catch(error => error.code);
        }"""
    )

    assert found == ["dune"] * 3
    assert after == "unauthenticated"


def test_a_page_follows_events_as_they_happen(run: Callable[..., Any], username: str) -> None:
    texts = run(
        """async ({ connect }, username, password) => {
            const client = connect(), room = client.objects.chat_room(username), found = [];
            await client.auth.login({ username, password });
            const events = client.events({ type: "chat_room", id: username });
            await events.ready;
            await Promise.all(["a", "b"].map(text => room.post({ text })));
            for await (const event of events) if (found.push(event.data.message.number) === 2) break;
            return found;
        }""",
        username,
        PASSWORD,
    )

    assert texts == [1, 2]


def test_a_page_with_a_token_sends_no_cookies(run: Callable[..., Any], world: World, username: str) -> None:
    value = run(
        """async ({ connect }, username, password, token) => {
            await connect().auth.login({ username, password });
            return connect(location.origin, { token }).objects.counter(`${username}-2`).increment();
        }""",
        username,
        PASSWORD,
        world.admin.removeprefix("Bearer "),
    )

    assert value == 1


@pytest.mark.usefixtures("bundled")
def test_hooks_show_what_is_there_and_what_changes(
    run: Callable[..., Any], browser: Remote, username: str, tmp_path: Path
) -> None:
    page = tmp_path / "hooks.js"
    line = ["npx", "esbuild", "test/hooks.js", "--bundle", "--minify", "--log-level=warning", f"--outfile={page}"]
    subprocess.run(line, cwd=SOURCE, check=True, timeout=60)
    name = f"c{secrets.token_hex(6)}"
    run(
        """async ({ connect }, username, password, name) => {
            globalThis.other = connect();
            await other.auth.login({ username, password });
            await other.data.collection(name).create({ title: "dune" });
        }""",
        username,
        PASSWORD,
        name,
    )
    browser.execute_script(page.read_text())
    browser.execute_script("start(arguments[0])", name)

    def shows(id: str, text: str) -> None:
        WebDriverWait(browser, 20, 0.05).until(lambda _: browser.find_element(By.ID, id).text == text)

    shows("user", username)
    shows("books", "dune")
    shows("missing", "not-found")
    shows("state", "connected")
    run("(module, name) => other.data.collection(name).create({ title: 'emma' })", name)
    shows("books", "dune,emma")
    browser.find_element(By.ID, "say").click()
    shows("texts", "hello")
    browser.find_element(By.ID, "logout").click()
    shows("user", "nobody")
    browser.execute_script("end()")
