"""Headless browsers: an installed one, else one in a container."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from selenium.webdriver import ChromeOptions, Remote
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from aidevos.settings import SettingsError
from deploy.local import ports
from tests.support.paths import temporary_folder
from tests.support.servers import ContainerServer, LocalServer, Server, docker_answers, free_port

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
IMAGE = "selenium/standalone-chromium:latest"
HOST = "127.0.0.1"
START_TIMEOUT = 60.0
POLL = 0.05
# The driver's own way to find out what is shown and what an element says takes the browser ten times as long.
SHOWN = "return document.getElementById(arguments[0]).checkVisibility()"
TEXT = "return document.getElementById(arguments[0]).textContent"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--window-size=900,700",
    # Transitions would draw dozens of frames that nobody looks at.
    "--force-prefers-reduced-motion",
)


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def find_driver() -> str | None:
    return shutil.which("chromedriver")


class Browsers:
    """A WebDriver server in a temporary home, and the browsers that it opens."""

    def __init__(self) -> None:
        """Prepare the driver; raise `SettingsError` if there is no browser."""
        self.home = temporary_folder("browsers")
        self._port = free_port()
        self._program = find_browser()
        self._driver: Server = self._find_driver()

    def start(self) -> None:
        self._driver.start()

    def close(self) -> None:
        self._driver.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def open(self) -> Remote:
        """Open a browser with a profile of its own."""
        options = ChromeOptions()
        if self._program is not None:
            options.binary_location = self._program
        for argument in ARGUMENTS:
            options.add_argument(argument)
        options.add_argument(f"--user-data-dir={tempfile.mkdtemp(dir=self.home)}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        return Remote(f"http://{HOST}:{self._port}", options=options)

    def _find_driver(self) -> Server:
        driver = find_driver()
        arguments = [f"--port={self._port}"]
        if self._program is not None and driver is not None:
            return LocalServer([driver, *arguments], self.home / "driver.log", self._ready)
        if not docker_answers():
            raise SettingsError("no browser was found: install Debian's packages chromium and chromium-driver")
        self._program = None
        return ContainerServer(
            IMAGE, ["/usr/bin/chromedriver", *arguments], self.home, self._ready, {"HOME": str(self.home)}
        )

    def _ready(self, check: Callable[[], None]) -> None:
        ports.wait_for_port(HOST, self._port, check, START_TIMEOUT)


def forget(browser: Remote) -> None:
    """Leave the open page and delete all that the browser keeps: cookies, storage, cache and logs."""
    browser.get("about:blank")
    for command in ("Network.clearBrowserCookies", "Network.clearBrowserCache"):
        browser.execute("executeCdpCommand", {"cmd": command, "params": {}})
    everything = {"origin": "*", "storageTypes": "all"}
    browser.execute("executeCdpCommand", {"cmd": "Storage.clearDataForOrigin", "params": everything})
    complaints(browser)
    requested(browser)


def complaints(browser: Remote) -> list[str]:
    """Return the Content Security Policy violations that the browser has logged since the last call."""
    log = browser.execute("getLog", {"type": "browser"})["value"]
    return [entry["message"] for entry in log if "Content Security" in entry["message"]]


def requested(browser: Remote) -> set[str]:
    """Return the URLs that the browser has requested since the last call."""
    log = browser.execute("getLog", {"type": "performance"})["value"]
    events = [json.loads(entry["message"])["message"] for entry in log]
    return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}


class Page:
    """The chat room's page, driven as a person would."""

    def __init__(self, browser: Remote, url: str) -> None:
        self.browser = browser
        browser.get(url)

    def log_in(self, username: str, password: str) -> None:
        self.until(lambda: self.is_shown("login"))
        self.at("username").send_keys(username)
        self.at("password").send_keys(password)
        self.at("login").submit()
        self.until(lambda: self.browser.execute_script(TEXT, "state") == "connected")

    def say(self, text: str) -> None:
        self.at("text").send_keys(text)
        self.at("post").submit()

    @property
    def texts(self) -> list[str]:
        """The messages on the page, without author and time."""
        script = "return [...document.querySelectorAll('#messages li')].map(line => line.childNodes[1].data)"
        found: list[str] = self.browser.execute_script(script)
        return found

    @property
    def complaints(self) -> list[str]:
        """Content Security Policy violations since the last read."""
        return complaints(self.browser)

    def is_shown(self, id: str) -> bool:
        return bool(self.browser.execute_script(SHOWN, id))

    def at(self, id: str) -> Any:
        return self.browser.find_element(By.ID, id)

    def until(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        WebDriverWait(self.browser, within, POLL).until(lambda _: condition())
