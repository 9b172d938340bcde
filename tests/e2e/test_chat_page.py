"""The chat room's page in real browsers."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator

import nats
import pytest
from selenium.webdriver import Remote

from tests.support.browser import Browsers, Page, forget
from tests.support.http import blocking_http_client
from tests.support.people import PASSWORD
from tests.support.world import NatsEntryPoint, World, wait_ready

MAY = ["objects:request", "chat_room:read", "chat_room:write"]
# More messages than the room keeps.
MISSED = 80
MARKUP = [
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script>",
    "&lt;b&gt; \" ' `",
]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def opened(browsers: Browsers) -> Iterator[list[Remote]]:
    """The browsers of two people."""
    both = [browsers.open(), browsers.open()]
    yield both
    for browser in both:
        browser.quit()


@pytest.fixture
def room() -> str:
    return f"r{secrets.token_hex(6)}"


@pytest.fixture
def pages(world: World, room: str, opened: list[Remote]) -> list[Page]:
    """Open the same room for two people."""
    admin, role = {"Authorization": world.admin}, f"r{secrets.token_hex(6)}"
    with blocking_http_client(base_url=world.url, timeout=20) as http:
        http.post("/roles", headers=admin, json={"name": role, "permissions": MAY}).raise_for_status()
        pages = []
        for browser in opened:
            forget(browser)
            name = f"u{secrets.token_hex(6)}"
            person = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
            made = http.post("/auth/register", json=person).raise_for_status().json()
            http.put(f"/users/{made['id']}", headers=admin, json={"roles": ["user", role]}).raise_for_status()
            page = Page(browser, f"{world.url}/examples/chat?room={room}")
            page.log_in(name, PASSWORD)
            pages.append(page)
    return pages


def test_what_one_says_the_other_sees_within_a_second(pages: list[Page]) -> None:
    took = []
    for number in range(3):
        pages[0].say(f"hello {number}")
        said = time.monotonic()
        pages[1].until(lambda number=number: f"hello {number}" in pages[1].texts)
        took.append(time.monotonic() - said)
    pages[1].say("and back")
    pages[0].until(lambda: pages[0].texts[-1] == "and back")

    # A busy machine may delay a message.
    assert min(took) < 1
    assert pages[0].texts == pages[1].texts == ["hello 0", "hello 1", "hello 2", "and back"]
    assert [page.complaints for page in pages] == [[], []]


def test_markup_in_a_message_is_text(pages: list[Page]) -> None:
    for number, text in enumerate(MARKUP, start=1):
        pages[0].say(text)
        for page in pages:
            page.until(lambda page=page, number=number: page.texts == MARKUP[:number])
    for page in pages:
        page.browser.refresh()
        page.until(lambda page=page: page.texts == MARKUP)
        assert page.browser.title == "Chat room"
        assert (
            page.browser.execute_script("return document.querySelectorAll('#messages :not(li, b, time)').length") == 0
        )


async def test_a_page_survives_a_restart_of_the_gateway_and_misses_nothing(
    world: World, pages: list[Page], room: str
) -> None:
    pages[0].say("before")
    pages[1].until(lambda: pages[1].texts == ["before"])
    world.signal("http_gateway", signal.SIGKILL)
    connection = await nats.connect(world.servers.nats_url("client"))
    token = world.token("chat_room:write")
    for number in range(MISSED):
        payload = b'{"text":"missed %d"}' % number
        await NatsEntryPoint(connection).call("chat_room", room, "post", payload, authorization=token)
    await connection.close()
    world.restart("http_gateway")
    wait_ready(world.url, [])

    expected = ["before", *(f"missed {number}" for number in range(MISSED))]
    for page in pages:
        page.until(lambda page=page: len(page.texts) >= len(expected), within=20)
        assert page.texts == expected
    pages[1].say("after")
    pages[0].until(lambda: pages[0].texts == [*expected, "after"])


def test_a_page_whose_session_was_ended_asks_for_a_login(world: World, pages: list[Page]) -> None:
    pages[0].browser.execute_script("return import('/client.js').then(client => client.connect().auth.logout())")

    pages[0].until(lambda: pages[0].is_shown("login"))
