"""The console in a real browser: what people do with their own accounts, each from login to effect."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pyotp
import pytest

from tests.support.browser import Page
from tests.support.console import Console, new_name, post
from tests.support.http import blocking_http_client
from tests.support.mails import in_folder, token_in
from tests.support.people import PASSWORD
from tests.support.world import World

NAME = "<b>Ada</b>"
NEXT_PASSWORD = "a kettle before dawn"
QR_IS_SHOWN = "const qr = document.querySelector('img.qr'); return Boolean(qr?.complete && qr.naturalWidth > 0)"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def api(world: World) -> Iterator[httpx2.Client]:
    with blocking_http_client(base_url=world.url, timeout=20) as api:
        yield api


@pytest.fixture
def console(login_page: Console) -> Console:
    return login_page


@pytest.fixture
def name(api: httpx2.Client) -> str:
    """The name of a registered user."""
    name = new_name()
    post(api, "/auth/register", username=name, email=address_of(name), password=PASSWORD)
    return name


def address_of(name: str) -> str:
    return f"{name}@example.org"


def section(title: str) -> str:
    return f"//section[h2='{title}']"


def prove(console: Console, within: str, password: str = PASSWORD) -> None:
    """Enter the present password in a part of the page."""
    fields = console.until(lambda: console.find(f"{within}//input[@name='password']"))
    fields[0].clear()
    fields[0].send_keys(password)


def follow(console: Console, world: World, path: str, to: str, subject: str) -> Page:
    """Open the page of the link in the last mail to this address with this text in its subject."""
    outbox = world.servers.home / "outbox"
    mails = console.until(lambda: [mail for mail in in_folder(outbox, to) if subject in mail["Subject"]])
    return Page(console.browser, f"{world.url}{path}#token={token_in(mails[-1])}")


def test_a_user_registers_changes_the_password_and_logs_in_with_a_second_factor(console: Console) -> None:
    name = new_name()
    console.press("Create an account")
    for label, text in (("Username", name), ("E-mail", address_of(name)), ("Password", PASSWORD)):
        console.fill(label, text)
    console.all("button[type=submit]")[0].click()
    console.until(lambda: console.all("aside nav"))
    console.press("Account")
    console.see("Logins need the password alone.")
    console.fill("New password", NEXT_PASSWORD)
    prove(console, section("Password"))
    console.press("Save", section("Password"))
    console.see("The password is changed.")
    prove(console, section("Second factor"), NEXT_PASSWORD)
    console.press("Set up an authenticator app")
    console.until(lambda: console.browser.execute_script(QR_IS_SHOWN))
    confirm_app(console)
    former = console.until(lambda: recovery_codes(console))
    console.see("Logins need a code")
    change_factor(console, "New recovery codes", former[0])
    assert console.violations() == []
    console.press("Renew", "//dialog")
    renewed = console.until(lambda: recovery_codes(console, former))
    change_factor(console, "Another authenticator app", renewed[0])
    console.press("Set up an authenticator app", "//dialog")
    console.until(lambda: console.browser.execute_script(QR_IS_SHOWN))
    confirm_app(console)
    latest = console.until(lambda: recovery_codes(console, renewed))
    console.press("Log out")
    console.until(lambda: console.all("input[name=password]"))
    console.fill("Username", name)
    console.fill("Password", NEXT_PASSWORD)
    console.press("Log in")
    console.fill("Code", renewed[1])
    console.press("Log in")
    console.until(lambda: console.all("[role=alert]"))
    console.fill("Code", latest[0])
    console.press("Log in")
    console.until(lambda: console.all("aside nav"))


def confirm_app(console: Console) -> None:
    """Enter the code that an app shows that has the secret on the page."""
    secret = console.find("//section[.//img]//*[@class='copy']/code")[-1].text
    console.fill("Code", pyotp.TOTP(secret).now())
    console.press("Confirm")


def change_factor(console: Console, label: str, code: str) -> None:
    """Open the dialog that this button opens, and enter the password and a recovery code."""
    console.press(label)
    prove(console, "//dialog", NEXT_PASSWORD)
    console.fill("Code", code)


def recovery_codes(console: Console, former: list[str] | None = None) -> list[str]:
    """Return the recovery codes that the page shows instead of the former ones."""
    shown = [each.text.split() for each in console.find("//*[@role='status']//*[@class='copy']/code")]
    return shown[0] if shown and shown[0] != former else []


def test_a_forgotten_password_is_replaced_with_a_mailed_link(console: Console, world: World, name: str) -> None:
    console.press("I have forgotten my password")
    console.fill("E-mail address", address_of(name))
    assert console.violations() == []
    console.press("Mail a link")
    console.see("a mail with a link that sets a new password is on its way")
    page = follow(console, world, "/auth/password/reset/confirm", address_of(name), "new password")
    page.at("password").send_keys(NEXT_PASSWORD)
    page.at("go").click()
    page.until(lambda: "Your password is changed" in page.at("said").text)
    console.open()
    console.log_in(name, NEXT_PASSWORD)


def test_an_address_changes_with_the_link_that_is_mailed_to_it(
    console: Console, world: World, api: httpx2.Client, name: str
) -> None:
    after = address_of(f"new-{name}")
    console.log_in(name, PASSWORD)
    console.open("/account")
    console.see("not confirmed")
    console.press("Mail a link that confirms it")
    console.see(f"A link is on its way to {address_of(name)}. It confirms the address.")
    console.fill("New address", after)
    prove(console, section("E-mail address"), "wrong")
    console.press("Mail a link")
    console.until(lambda: console.all("section [role=alert]"))
    prove(console, section("E-mail address"))
    console.press("Mail a link")
    console.see(f"A link is on its way to {after}. Your address changes when you use it.")
    page = follow(console, world, "/auth/email/confirm", after, "new e-mail")
    page.at("go").click()
    page.until(lambda: "is confirmed" in page.at("said").text)
    console.open("/account")
    console.see(after)
    assert "not confirmed" not in console.text
    # The wrong password was sent once.
    refused = {"action": "email.change_requested", "outcome": "failure"}
    audit = api.get("/audit", params=refused, headers={"Authorization": world.admin}).raise_for_status().json()
    (user,) = api.get("/users", params={"q": name}, headers={"Authorization": world.admin}).json()["items"]
    assert [entry["target"] for entry in audit["items"]].count(user["id"]) == 1


def test_who_knows_a_password_is_shut_out_when_it_changes(console: Console, api: httpx2.Client, name: str) -> None:
    def log_in(password: str) -> dict[str, str]:
        pair = post(api, "/auth/login", username=name, password=password)
        return {"Authorization": f"Bearer {pair['access_token']}"}

    def is_admitted(headers: dict[str, str]) -> bool:
        return api.get("/auth/me", headers=headers).is_success

    body = {"name": name, "scopes": ["profile:self"]}
    made = api.post("/api-keys", json=body, headers=log_in(PASSWORD)).raise_for_status().json()
    key = {"X-Api-Key": made["key"]}
    assert is_admitted(key)
    console.log_in(name, PASSWORD)
    console.open("/account")
    console.fill("New password", NEXT_PASSWORD)
    prove(console, section("Password"))
    console.check("End my API keys and webhooks too")
    console.press("Save", section("Password"))
    console.see("Your other sessions, API keys and webhooks have ended.")
    console.until(lambda: not is_admitted(key))
    session = log_in(NEXT_PASSWORD)
    assert is_admitted(session)
    console.press("Log out everywhere")
    console.see("I have forgotten my password")
    console.until(lambda: not is_admitted(session))


def test_the_profile_is_changed_and_erasing_the_account_asks_for_the_password(console: Console, name: str) -> None:
    console.log_in(name, PASSWORD)
    console.open("/account")
    console.fill("Full name", NAME)
    console.press("Save", "//form[.//label[normalize-space()='Full name']]")
    console.see("Saved.")
    prove(console, section("Erase my account"), "wrong")
    console.press("Erase my account")
    console.press("Erase my account", "//dialog")
    console.until(lambda: console.all("dialog [role=alert]"))
    console.press("Cancel", "//dialog")
