"""A login on a page in the browser, seen from the command that waits for its tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from aidevos.cli import browser
from aidevos.cli.errors import CommandError

PAIR = '{"access_token": "a"}'


def visit(monkeypatch: pytest.MonkeyPatch, page: Callable[[str, str], None]) -> None:
    """Let a page in place of a browser's run with the command's URL and the state that it has given."""

    def run(url: str) -> None:
        given = {name: values[0] for name, values in parse_qs(urlsplit(url).fragment).items()}
        threading.Thread(target=page, args=(f"http://127.0.0.1:{given['port']}/", given["state"]), daemon=True).start()

    monkeypatch.setattr("webbrowser.open", run)


def test_only_the_tokens_with_the_state_of_this_login_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = []

    def page(url: str, state: str) -> None:
        forms = [{"state": "x", "tokens": '{"access_token": "b"}'}, {}, {"state": state, "tokens": "["}]
        forms.append({"state": state, "tokens": PAIR})
        statuses.extend(httpx2.post(url, data=form).status_code for form in forms)

    visit(monkeypatch, page)

    assert browser.log_in_by_browser("https://api.example.org") == {"access_token": "a"}
    assert statuses[:3] == [400, 400, 400]


def test_tokens_in_a_url_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = []

    def page(url: str, state: str) -> None:
        statuses.append(httpx2.get(url, params={"state": state, "tokens": '{"access_token": "b"}'}).status_code)
        httpx2.post(url, data={"state": state, "tokens": PAIR})

    visit(monkeypatch, page)

    assert browser.log_in_by_browser("https://api.example.org") == {"access_token": "a"}
    assert statuses == [501]


def test_a_command_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "LOGGED_IN_WITHIN", 0.05)
    visit(monkeypatch, lambda url, state: None)

    with pytest.raises(CommandError, match="five minutes"):
        browser.log_in_by_browser("https://api.example.org")
