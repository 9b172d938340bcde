"""The API documentation page in a real browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Remote
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browser import Browsers, complaints, forget, requested
from tests.support.gateway_world import World, gateway_world
from tests.support.http import NO_TLS
from tests.support.servers import Servers

VERBS = {"get", "put", "post", "delete", "patch"}
# Seconds, more than a busy machine needs to show 500 operations.
WITHIN = 60.0
TAGS = "return [...document.querySelectorAll('.opblock-tag')].map(tag => tag.dataset.tag)"
SHOWN = """
return [...document.querySelectorAll('.opblock')].map(block => [
    block.querySelector('.opblock-summary-method').textContent.toLowerCase(),
    block.querySelector('.opblock-summary-path').dataset.path,
].join(' '))
"""

pytestmark = pytest.mark.timeout(240)


class DocsPage:
    """The documentation page, driven as a person would."""

    def __init__(self, browser: Remote, url: str) -> None:
        self.browser = browser
        browser.get(url)

    def until(self, script: str) -> Any:
        """Return the script's result once it is true."""
        return WebDriverWait(self.browser, WITHIN).until(lambda _: self.browser.execute_script(script))

    def click(self, selector: str) -> None:
        self.until(f"const found = document.querySelector('{selector}'); found?.click(); return found !== null")

    def paste(self, selector: str, text: str) -> None:
        """Enter a text at once: the viewer draws all of its page anew after each key."""
        self.until(f"const field = document.querySelector('{selector}'); field?.focus(); return field !== null")
        self.browser.execute("executeCdpCommand", {"cmd": "Input.insertText", "params": {"text": text}})


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(gateway_world(servers)) as world:
        yield world


@pytest.fixture(scope="module")
def opened(browsers: Browsers) -> Iterator[Remote]:
    browser = browsers.open()
    yield browser
    browser.quit()


@pytest.fixture
def browser(opened: Remote) -> Remote:
    forget(opened)
    return opened


def test_it_shows_every_operation_and_loads_nothing_from_elsewhere(world: World, browser: Remote) -> None:
    document = httpx2.get(f"{world.url}/openapi.json", verify=NO_TLS).json()
    page = DocsPage(browser, f"{world.url}/docs")

    page.until("return document.querySelector('.opblock-tag') !== null")
    items = document["paths"] | document["webhooks"]
    operations = {f"{verb} {path}": item[verb] for path, item in items.items() for verb in VERBS & item.keys()}
    shown: set[str] = set()
    # One group at a time, as a person opens them: the viewer stops showing more than about 130 operations at once.
    for tag in browser.execute_script(TAGS):
        count = [tag in operation.get("tags", ()) for operation in operations.values()].count(True)
        heading = f'.opblock-tag[data-tag="{tag}"]'
        page.click(heading)
        with contextlib.suppress(TimeoutException):
            page.until(f"return document.querySelectorAll('.opblock').length >= {count}")
        shown |= {*browser.execute_script(SHOWN)}
        page.click(heading)
        page.until(f"return document.querySelector('{heading}').dataset.isOpen === 'false'")

    assert shown == operations.keys()
    urls = requested(browser)
    # The browser's initial page uses other schemes.
    assert {url for url in urls if url.startswith(("http", "ws")) and not url.startswith(f"{world.url}/")} == set()
    assert {f"{world.url}/docs/{name}" for name in ("swagger-ui-bundle.js", "start.js")} <= urls
    assert complaints(browser) == []


def test_a_request_is_sent_with_the_token_that_was_entered(world: World, browser: Remote) -> None:
    page = DocsPage(browser, f"{world.url}/docs#/operation/metrics")

    page.click(".btn.authorize")
    token = world.authorized("admin")["Authorization"].removeprefix("Bearer ")
    page.paste("input[aria-label=auth-bearer-value]", token)
    page.click(".auth-container .btn.authorize")
    page.click(".btn-done")
    page.click(".try-out__btn")
    page.click(".execute")
    status = page.until(
        "return document.querySelector('.live-responses-table tbody .response-col_status')?.textContent"
    )

    assert status.startswith("200")
    assert complaints(browser) == []


def test_no_inline_script_runs_in_it(world: World, browser: Remote) -> None:
    DocsPage(browser, f"{world.url}/docs")

    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.owned = true';"
        "document.body.append(script)"
    )

    assert browser.execute_script("return window.owned") is None
    assert len(complaints(browser)) == 1
