"""The console in two browsers, for all of its tests: an administrator is logged in to one, and nobody to the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Remote

from tests.support.browser import Browsers, forget
from tests.support.console import Console, People, Visit, checked, open_browser, visiting
from tests.support.world import World, Worlds


@pytest.fixture(scope="package")
def world(worlds: Worlds) -> World:
    return worlds.shared()


@pytest.fixture(scope="package")
def visit(browsers: Browsers, world: World) -> Iterator[Visit]:
    with visiting(browsers, world) as visit:
        yield visit


@pytest.fixture
def admin(visit: Visit) -> People:
    return visit.admin


@pytest.fixture
def console(visit: Visit) -> Iterator[Console]:
    with checked(visit.console) as console:
        yield console


@pytest.fixture(scope="package")
def browser(browsers: Browsers) -> Iterator[Remote]:
    browser = open_browser(browsers)
    yield browser
    browser.quit()


@pytest.fixture
def login_page(browser: Remote, world: World) -> Iterator[Console]:
    """The console's first page in a browser that has kept nothing."""
    forget(browser)
    with checked(Console(browser, world.url)) as console:
        console.open()
        yield console
