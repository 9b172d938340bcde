"""A real browser without a window."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
POLL = 0.02


def open_browser(profile: Path) -> Chrome:
    """A browser of its own, with this profile; raises `RuntimeError` where none is installed."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        raise RuntimeError("there is no browser to test with: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=900,700"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options, Service(driver))


class Page:
    """What a person does with the chat room's page."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.get(url)

    def log_in(self, username: str, password: str) -> None:
        self.until(lambda: self.at("login").is_displayed())
        self.at("username").send_keys(username)
        self.at("password").send_keys(password)
        self.at("login").submit()
        self.until(lambda: self.at("state").text == "connected")

    def say(self, text: str) -> None:
        self.at("text").send_keys(text)
        self.at("post").submit()

    @property
    def texts(self) -> list[str]:
        """The messages that are shown, without who has said them and when."""
        script = "return [...document.querySelectorAll('#messages li')].map(line => line.childNodes[1].data)"
        found: list[str] = self.browser.execute_script(script)
        return found

    @property
    def complaints(self) -> list[str]:
        """What the browser itself had to say against the page."""
        return [entry["message"] for entry in self.browser.get_log("browser") if "Content Security" in entry["message"]]

    def at(self, id: str) -> Any:
        return self.browser.find_element(By.ID, id)

    def until(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        WebDriverWait(self.browser, within, POLL).until(lambda _: condition())
