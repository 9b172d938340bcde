"""The console in a browser, driven as a person would."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
    WebDriverException,
)
from selenium.webdriver import Remote
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.support.browser import Browsers, complaints, forget, requested
from tests.support.http import blocking_http_client
from tests.support.people import PASSWORD
from tests.support.world import World

AXE = Path(__file__).parent.parent.parent / "clients/console/node_modules/axe-core/axe.min.js"
# The browser may run in a container that has no files of the test's.
CHOOSE_FILE = """
const [field, name, text] = arguments, chosen = new DataTransfer()
chosen.items.add(new File([text], name))
field.files = chosen.files
field.dispatchEvent(new Event("change", {bubbles: true}))
"""
# The driver's own way to find out what is shown and what a cell says takes the browser ten times as long.
LAST_SHOWN = """
const [path, ofLabel] = arguments
const found = document.evaluate(path, document, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null)
for (let at = found.snapshotLength - 1; at >= 0; at--) {
  const each = found.snapshotItem(at)
  const wanted = !ofLabel ? each : each.htmlFor ? document.getElementById(each.htmlFor) : each.querySelector("[name]")
  if (wanted?.checkVisibility({visibilityProperty: true}) && wanted.getClientRects().length > 0) return wanted
}
return null
"""
ROW_IS_SHOWN = "return [...document.querySelectorAll('td')].some((cell) => cell.innerText.includes(arguments[0]))"
# A browser without a graphics card spends more on the blur behind dialogs than on all else that it draws.
UNBLURRED = """
const style = new CSSStyleSheet()
style.replaceSync("dialog { backdrop-filter: none !important }")
document.adoptedStyleSheets = [style]
"""
WITHIN = 15.0
POLL = 0.05


class People(NamedTuple):
    """An administrator, and the API with the same rights."""

    name: str
    api: httpx2.Client

    def find(self, name: str) -> dict[str, Any]:
        """Return the user of this name."""
        (user,) = self.api.get(f"/users?q={name}").raise_for_status().json()["items"]
        return dict(user)


class Visit(NamedTuple):
    """An administrator who is logged in to the console."""

    admin: People
    console: Console


class Console:
    """The console at a gateway's URL."""

    def __init__(self, browser: Remote, url: str) -> None:
        self.browser = browser
        self._url = url

    def open(self, path: str = "") -> None:
        self.browser.get(f"{self._url}/console{path}")

    def log_in(self, username: str, password: str) -> None:
        self.fill("Username or e-mail address", username)
        self.fill("Password", password)
        self.press("Log in")
        self.until(lambda: self.all("aside nav"))

    def see(self, text: str) -> None:
        """Wait until the page shows the text."""
        self.until(lambda: text in self.text)

    def see_row(self, text: str) -> None:
        """Wait until a cell of a table shows the text."""
        self.until(lambda: self.browser.execute_script(ROW_IS_SHOWN, text))

    @property
    def text(self) -> str:
        # The driver's own way to read it takes the browser ten times as long.
        return str(self.browser.execute_script("return document.body.innerText"))

    @property
    def focused(self) -> WebElement:
        return self.browser.switch_to.active_element

    def type(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.focused.send_keys(*keys)

    def press(self, label: str, within: str = "") -> None:
        """Press the button, or follow the link, with exactly this text; the last one, which a dialog is."""
        scope = f"{within}//" if within else "//"
        path = f"{scope}*[self::button or self::a or self::summary][normalize-space()={_quote(label)}]"
        self.until(lambda: self._click(path))

    def fill(self, label: str, text: str) -> None:
        """Replace what is in the field with this label, all at once as a person pastes."""
        field = self.field(label)
        field.clear()
        if text:
            self.browser.execute_script("arguments[0].focus()", field)
            self.browser.execute("executeCdpCommand", {"cmd": "Input.insertText", "params": {"text": text}})

    def check(self, label: str) -> None:
        """Tick, or untick, the box with this label."""
        path = f"//label[starts-with(normalize-space(), {_quote(label)})]"
        self.until(lambda: self._click(path))

    def upload(self, label: str, name: str, text: str) -> None:
        """Choose a file of this name and content in the field with this label."""
        (field,) = self.all(f"input[type=file][aria-label={_quote(label)}]")
        self.browser.execute_script(CHOOSE_FILE, field, name, text)

    def choose(self, label: str, option: str) -> None:
        def pick() -> bool:
            try:
                Select(self.field(label)).select_by_visible_text(option)
            except NoSuchElementException:
                return False
            return True

        self.until(pick)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def find(self, path: str) -> list[WebElement]:
        """Return the elements at this XPath."""
        return self.browser.find_elements(By.XPATH, path)

    def until(self, condition: Callable[[], Any]) -> Any:
        def check(browser: Remote) -> Any:
            try:
                return condition()
            except StaleElementReferenceException:
                return False

        try:
            return WebDriverWait(self.browser, WITHIN, POLL).until(check)
        except TimeoutException:
            pytest.fail(f"not within {WITHIN:.0f} s; the page {self.browser.current_url} shows:\n{self.text}")

    def violations(self) -> list[str]:
        """Return what axe has against the open page in both colour schemes, which differ in colours alone."""
        self.browser.execute_script(AXE.read_text())
        found = self._run_axe("{resultTypes: ['violations']}")
        self._prefer("dark")
        try:
            return [*found, *self._run_axe("{runOnly: ['color-contrast']}")]
        finally:
            self._prefer("light")

    def _run_axe(self, options: str) -> list[str]:
        found = self.browser.execute_async_script(f"const done = arguments[0]; axe.run({options}).then(done)")
        return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]

    def _prefer(self, scheme: str) -> None:
        # A transition would show colours that belong to neither scheme.
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        preferred = {"features": [{"name": name, "value": value} for name, value in features.items()]}
        self.browser.execute("executeCdpCommand", {"cmd": "Emulation.setEmulatedMedia", "params": preferred})

    def _click(self, path: str) -> bool:
        shown = self.browser.execute_script(LAST_SHOWN, path, False)
        if shown is None:
            return False
        try:
            shown.click()
        except WebDriverException:
            return False
        return True

    def field(self, label: str) -> WebElement:
        """Return the last shown field whose label begins with this text."""
        path = f"//label[starts-with(normalize-space(), {_quote(label)})]"
        found: WebElement = self.until(lambda: self.browser.execute_script(LAST_SHOWN, path, True))
        return found


def open_browser(browsers: Browsers) -> Remote:
    """Open a browser with a window that shows the menu beside the page."""
    browser = browsers.open()
    browser.set_window_size(1280, 900)
    always = {"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": UNBLURRED}}
    browser.execute("executeCdpCommand", always)
    return browser


@contextmanager
def visiting(browsers: Browsers, world: World) -> Iterator[Visit]:
    """Log in to the console as a new administrator."""
    browser = open_browser(browsers)
    try:
        with blocking_http_client(base_url=world.url, timeout=20, headers={"Authorization": world.admin}) as api:
            admin = People(register(api, "admin"), api)
            forget(browser)
            console = Console(browser, world.url)
            console.open()
            console.log_in(admin.name, PASSWORD)
            yield Visit(admin, console)
    finally:
        browser.quit()


@contextmanager
def checked(console: Console) -> Iterator[Console]:
    """Check that meanwhile no text ran as a script, and none was kept from it by the policy alone."""
    requested(console.browser)
    complaints(console.browser)
    yield console
    assert complaints(console.browser) == []
    assert console.browser.execute_script("return window.pwned") is None


def register(api: httpx2.Client, *roles: str, full_name: str = "") -> str:
    """Register a user with these roles, and return the name."""
    name = f"u{secrets.token_hex(6)}"
    person = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "full_name": full_name}
    made = api.post("/auth/register", json=person).raise_for_status().json()
    api.put(f"/users/{made['id']}", json={"full_name": full_name, "roles": roles}).raise_for_status()
    return name


def post(api: httpx2.Client, path: str, **body: Any) -> Any:
    return api.post(path, json=body).raise_for_status().json()


def new_name() -> str:
    return f"n{secrets.token_hex(6)}"


def _quote(text: str) -> str:
    """Return an XPath string; the text has no double quotes."""
    return f'"{text}"'
