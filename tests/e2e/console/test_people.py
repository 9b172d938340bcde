"""The console in a real browser: people and their rights, projects and webhooks, each from login to effect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from selenium.webdriver.remote.webelement import WebElement

from tests.support.console import Console, People, new_name, post, register
from tests.support.http import blocking_http_client
from tests.support.people import PASSWORD
from tests.support.receiver import Receiver
from tests.support.world import World

NAME = "<b>Ada</b>"
# The status of a receiver that wants no further deliveries.
GONE = 410
pytestmark = pytest.mark.timeout(240)


def test_a_project_runs_a_task_that_can_be_cancelled(console: Console, admin: People) -> None:
    console.open("/projects")
    console.press("New project")
    console.fill("Name", NAME)
    console.press("Create", "//dialog")
    console.see("No task matches")
    console.see(NAME)
    console.press("New task")
    console.fill("Kind", "nobody.does_this")
    console.press("Create", "//dialog")
    console.see_row("queued")
    console.press("Cancel")
    console.see_row("cancelled")
    console.press("Retry")
    console.see_row("queued")
    console.press("Delete", "//td")
    console.press("Delete", "//dialog")
    console.see("No task matches")


def test_a_project_is_renamed_and_its_webhook_secret_renewed(console: Console, admin: People) -> None:
    name, about, lines = new_name(), new_name(), "one line\nand another"
    path = f"/projects/{post(admin.api, '/projects', name=new_name(), description=lines)['id']}"

    def read() -> tuple[str, str]:
        project = admin.api.get(path).raise_for_status().json()
        return project["name"], project["description"]

    console.open(path)
    console.press("Edit")
    console.fill("Name", name)
    console.press("Save", "//dialog")
    console.until(lambda: console.all("h1")[0].text == name)
    assert read() == (name, lines)
    # A new member makes a new version, on which the next change is based.
    console.fill("User (name or ID)", admin.name)
    console.press("Save", "//section[@aria-label='Members']")
    console.see_row(admin.name)
    console.press("Edit")
    console.fill("Description", about)
    console.press("Save", "//dialog")
    console.see(about)
    assert read() == (name, about)
    console.press("Webhook secret")
    former = console.until(lambda: console.all("dialog .copy code"))[0].text
    assert former == post(admin.api, f"{path}/webhook-secret")["secret"]
    assert console.violations() == []
    console.press("New secret", "//dialog")
    console.press("New secret", "//dialog")
    console.until(lambda: console.all("dialog .copy code")[0].text != former)
    renewed = console.all("dialog .copy code")[0].text
    assert renewed == post(admin.api, f"{path}/webhook-secret")["secret"]


def test_a_task_that_has_failed_says_why_and_succeeds_when_tried_again(console: Console, admin: People) -> None:
    project, collection = post(admin.api, "/projects", name=new_name())["id"], new_name()
    items = [{"data": {"number": number}} for number in range(3)]
    console.open(f"/projects/{project}")
    console.press("New task")
    console.fill("Kind", "data.export")
    console.fill("Payload", json.dumps({"collection": collection}))
    console.press("Create", "//dialog")
    # The page follows the task by itself.
    console.see_row("failed")
    console.press("data.export")
    console.until(lambda: any("not-found" in alert.text for alert in console.all("dialog [role=alert]")))
    console.all("dialog .close")[0].click()
    admin.api.put(f"/data/collections/{collection}", json={}).raise_for_status()
    for item in items:
        post(admin.api, f"/data/collections/{collection}", **item)
    console.press("Retry")
    console.see_row("succeeded")
    (task,) = admin.api.get(f"/projects/{project}/tasks").json()["items"]
    assert task["result"]["count"] == 3


def test_a_member_is_added_and_shown_by_name(console: Console, admin: People) -> None:
    name = register(admin.api, "user")
    project = post(admin.api, "/projects", name=new_name())["id"]
    console.open(f"/projects/{project}")
    console.fill("User (name or ID)", "nobody-of-this-name")
    console.press("Save")
    console.see("There is no user nobody-of-this-name.")
    console.fill("User (name or ID)", name)
    console.press("Save")
    console.see_row(name)

    def members() -> set[str]:
        return {each["user_id"] for each in admin.api.get(f"/projects/{project}/members").json()["items"]}

    added = admin.find(name)["id"]
    assert added in members()
    console.press("Remove", f"//tr[td[normalize-space()='{name}']]")
    console.see("The member is removed.")
    assert added not in members()
    console.press("Undo")
    console.see_row(name)
    assert added in members()


def test_a_user_whom_an_administrator_has_created_logs_in(console: Console, admin: People) -> None:
    name = new_name()
    console.open("/users")
    console.press("New user")
    for label, text in (("Username", name), ("E-mail", f"{name}@example.org"), ("Password", PASSWORD)):
        console.fill(label, text)
    console.press("Create", "//dialog")
    console.until(lambda: "/console/users/" in console.browser.current_url)
    assert post(admin.api, "/auth/login", username=name, password=PASSWORD)["user"]["username"] == name


def test_a_user_gets_a_role_and_is_deactivated(console: Console, admin: People) -> None:
    role = new_name()
    console.open("/roles")
    console.press("New role")
    console.fill("Name", role)
    console.fill("Permissions", "users:read, audit:read")
    console.press("Save")
    console.see(role)
    name = register(admin.api, "user", full_name=NAME)
    console.open(f"/users?q={name}")
    console.see(NAME)
    console.press(name)
    console.see("Roles")
    console.check(role)
    console.press("Save")
    console.until(lambda: set(admin.find(name)["roles"]) == {"user", role})
    console.press("Deactivate")
    console.press("Deactivate", "//dialog")
    console.see("deactivated")
    assert admin.find(name)["status"] == "deactivated"
    console.press("Activate")
    # The button takes the place of the other one, and moves the next.
    console.until(lambda: any(button.text == "Deactivate" for button in console.all("header button")))
    assert admin.find(name)["status"] == "active"
    console.press("Erase")
    console.press("Erase", "//dialog")
    console.until(lambda: console.browser.current_url.endswith("/console/users"))
    assert admin.api.get(f"/users?q={name}").json()["items"] == []


def test_a_role_is_changed_deleted_and_brought_back(console: Console, admin: People) -> None:
    name = new_name()
    post(admin.api, "/roles", name=name, permissions=["users:read"])
    console.open("/roles")
    console.press(name)
    console.fill("Permissions", "audit:read, data:read")
    console.press("Save", "//dialog")
    console.see("audit:read, data:read")
    assert admin.api.get(f"/roles/{name}").json()["permissions"] == ["audit:read", "data:read"]
    console.press("Delete", f"//tr[td[normalize-space()='{name}']]")
    console.press("Delete", "//dialog")
    console.see(f"The role {name} is removed.")
    console.until(lambda: admin.api.get(f"/roles/{name}").status_code == 404)
    console.press("Undo")
    console.until(lambda: admin.api.get(f"/roles/{name}").status_code == 200)


def test_sessions_of_a_user_are_ended_one_by_one_and_all(console: Console, admin: People, world: World) -> None:
    name = register(admin.api, "user")
    with blocking_http_client(base_url=world.url, timeout=20) as http:
        logins = [post(http, "/auth/login", username=name, password=PASSWORD) for _ in range(3)]

        def admitted() -> int:
            tokens = [f"Bearer {each['access_token']}" for each in logins]
            return sum(http.get("/auth/me", headers={"Authorization": token}).is_success for token in tokens)

        assert admitted() == 3
        console.open(f"/users/{logins[0]['user']['id']}")
        console.until(lambda: len(ends(console)) == 3)
        ends(console)[0].click()
        console.until(lambda: admitted() == 2 and len(ends(console)) == 2)
        console.press("End all sessions")
        console.see("No open session.")
        console.until(lambda: admitted() == 0)


def ends(console: Console) -> list[WebElement]:
    return [button for button in console.all("td button") if button.text == "End"]


def test_an_api_key_is_shown_once_and_revoked(console: Console, world: World) -> None:
    name = new_name()
    console.open("/keys")
    console.press("New key")
    console.fill("Name", name)
    console.fill("Scopes", "counter:write, objects:request")
    console.fill("Limit: requests", "7")
    console.press("Create", "//dialog")
    console.see("It is shown only once")
    key = console.all("dialog .copy code")[0].text
    with blocking_http_client(base_url=world.url, timeout=20, headers={"X-Api-Key": key}) as program:
        call = {"method": "increment", "args": {}}
        path = f"/durable-objects/counter:{name}/request"
        answers = [program.post(path, json=call).status_code for _ in range(8)]
        assert answers == [200] * 7 + [429]
        console.all("dialog .close")[0].click()
        console.see("7 in 60 s")
        console.press("Rotate", f"//tr[td[normalize-space()='{name}']]")
        console.press("Rotate", "//dialog")
        console.see("It is shown only once")
        console.until(lambda: program.post(path, json=call).status_code == 401)
        program.headers["X-Api-Key"] = console.all("dialog .copy code")[0].text
        console.until(lambda: program.post(path, json=call).status_code in (200, 429))
        console.all("dialog .close")[0].click()
        console.press("Revoke", f"//tr[td[normalize-space()='{name}']]")
        console.press("Revoke", "//dialog")
        console.until(lambda: program.post(path, json=call).status_code == 401)


def test_an_api_key_is_changed_and_keeps_its_secret(console: Console, admin: People, world: World) -> None:
    name, renamed = new_name(), new_name()
    limits, ends = {"rate": 5, "window": 0.5}, "2100-01-01T10:20:30Z"
    pair = post(admin.api, "/auth/login", username=admin.name, password=PASSWORD)
    body = {"name": name, "scopes": ["data:read", "users:read"], "limits": limits, "expires_at": ends}
    own = {"Authorization": f"Bearer {pair['access_token']}"}
    made = admin.api.post("/api-keys", json=body, headers=own).raise_for_status().json()
    with blocking_http_client(base_url=world.url, timeout=20, headers={"X-Api-Key": made["key"]}) as program:

        def permissions() -> list[str]:
            answer = program.get("/auth/me")
            return list(answer.json()["permissions"]) if answer.is_success else []

        console.open("/keys")
        console.press("Edit", f"//tr[td[normalize-space()='{name}']]")
        console.fill("Name", renamed)
        console.fill("Scopes", "users:read")
        assert console.violations() == []
        console.press("Save", "//dialog")
        console.see_row(renamed)
        changed = admin.api.get(f"/api-keys/{made['id']}").json()
        # What was left alone has not changed, not even the seconds, which no field shows.
        kept = ("hint", "owner", "limits", "expires_at", "allowed_addresses")
        assert {field: changed[field] for field in kept} == {field: made[field] for field in kept}
        console.until(lambda: permissions() == ["users:read"])
        console.press("Edit", f"//tr[td[normalize-space()='{renamed}']]")
        console.fill("Limit: requests", "")
        console.fill("Only from these addresses", "203.0.113.0/24")
        console.fill("Expires", "")
        console.press("Save", "//dialog")
        console.until(lambda: permissions() == [])
        changed = admin.api.get(f"/api-keys/{made['id']}").json()
        assert (changed["limits"], changed["expires_at"]) == (None, None)
        assert changed["allowed_addresses"] == ["203.0.113.0/24"]


def test_a_webhook_is_made_changed_and_its_secret_shown(console: Console, admin: People) -> None:
    url = f"https://example.org/{new_name()}"
    make_webhook(console, url, "item.*")
    console.press(url)
    console.see("Nothing was sent yet.")
    console.all("dialog .close")[0].click()
    row = f"//tr[td//*[normalize-space()='{url}']]"
    console.press("Edit", row)
    console.check("Active")
    console.press("Save", "//dialog")
    console.until(lambda: hook_of(admin, url)["active"] is False)
    console.press("New secret", row)
    console.press("New secret", "//dialog")
    console.see("signs deliveries")


def test_a_delivery_that_has_failed_is_sent_again(console: Console, admin: People) -> None:
    with receiving() as receiver:
        url = receiver.url("hook")
        receiver.answers["/hook"] = GONE
        row = f"//tr[td//*[normalize-space()='{url}']]"
        make_webhook(console, url, "item.deleted")
        console.press("Send a test", row)
        console.see("A test event is on its way.")
        console.until(lambda: len(receiver.at("hook")) == 1)
        console.press(url)
        console.until(lambda: "failed" in refreshed(console))
        console.see(f"the receiver responded with {GONE}")
        console.all("dialog .close")[0].click()
        # 410 has made the webhook inactive.
        receiver.answers["/hook"] = 204
        console.open("/webhooks")
        console.press("Edit", row)
        console.check("Active")
        console.press("Save", "//dialog")
        console.until(lambda: hook_of(admin, url)["active"])
        console.press(url)
        console.press("Send again", "//dialog")
        console.until(lambda: "delivered" in refreshed(console))
        first, second = receiver.at("hook")
        assert first.id == second.id
        console.all("dialog .close")[0].click()
        console.press("Delete", row)
        console.press("Delete", "//dialog")
        console.until(lambda: url not in console.text)


def make_webhook(console: Console, url: str, events: str) -> None:
    """Make a webhook, and leave the dialog that shows its secret."""
    console.open("/webhooks")
    console.press("New webhook")
    console.fill("URL", url)
    console.fill("Events", events)
    console.press("Create", "//dialog")
    console.see("signs deliveries")
    console.all("dialog .close")[0].click()


def refreshed(console: Console) -> str:
    console.press("Refresh", "//dialog")
    return "".join(row.text for row in console.all("dialog tbody"))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive webhooks in a thread of its own."""
    loop, receiver = asyncio.new_event_loop(), Receiver()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(receiver.start(), loop).result(10)
        yield receiver
        asyncio.run_coroutine_threadsafe(receiver.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def hook_of(admin: People, url: str) -> dict[str, Any]:
    hooks = admin.api.get("/webhooks?limit=500").raise_for_status().json()["items"]
    return next(dict(hook) for hook in hooks if hook["url"] == url)


def test_a_route_is_declared_deleted_and_brought_back(console: Console, admin: People) -> None:
    path = f"/{new_name()}"
    console.open("/routes")
    console.press("New route")
    body = {"method": "GET", "path": path, "object_type": "counter", "object_id": "routed", "object_method": "value"}
    console.fill("The route", json.dumps(body))
    console.press("Save")
    console.see(path)
    console.until(lambda: admin.api.get(path).status_code == 200)
    console.press("Delete", f"//tr[td[normalize-space()='{path}']]")
    console.press("Delete", "//dialog")
    console.until(lambda: admin.api.get(path).status_code == 404)
    console.press("Undo")
    console.until(lambda: admin.api.get(path).status_code == 200)


def test_the_rate_limits_are_replaced(console: Console, admin: People) -> None:
    name = new_name()
    before = admin.api.get("/rate-limits").json()["policies"]
    wanted = {**before, name: {"rate": 1000, "window": 1, "applies_to": ["audit"]}}
    try:
        console.open("/limits")
        console.fill("Policies", json.dumps(wanted))
        console.press("Save")
        console.see("Saved.")
        assert name in admin.api.get("/rate-limits").json()["policies"]
        console.fill("Policies", '{"default": {"rate": -1}}')
        console.press("Save")
        console.until(lambda: any("rate" in alert.text for alert in console.all("[role=alert]")))
    finally:
        admin.api.put("/rate-limits", json={"policies": before}).raise_for_status()


def test_the_security_log_is_filtered(console: Console, admin: People) -> None:
    name = register(admin.api, "user")
    for password in ("not the password", PASSWORD):
        admin.api.post("/auth/login", json={"username": name, "password": password}, headers={"Authorization": ""})
    console.open("/audit?action=login")
    console.fill("On", name)
    console.press("Search", "//main")
    console.until(lambda: outcomes(console) == ["failure", "success"] or outcomes(console) == ["success", "failure"])
    assert all(name in row.text for row in console.all("tbody tr"))
    console.choose("Outcome", "failure")
    console.until(lambda: outcomes(console) == ["failure"])
    console.fill("On", "nobody-of-this-name")
    console.press("Search", "//main")
    console.see("There is no user nobody-of-this-name.")
    console.open("/audit?to=2020-01-01T00:00:00Z")
    console.see("No entry matches.")


def outcomes(console: Console) -> list[str]:
    return [badge.text for badge in console.all("tbody .badge")]
