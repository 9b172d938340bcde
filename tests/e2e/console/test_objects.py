"""The console in a real browser: the fleet, its events, objects and data, each from login to effect."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator

import pytest

from tests.support.browser import requested
from tests.support.console import Console, People, new_name, post
from tests.support.letters import bury_letters
from tests.support.sheets import serving_sheets
from tests.support.world import World

TITLE = "<b>bold</b>\"'&lt;"
# The browser may run in a container that has no files of the test's.
KEEP_SAVED = """
const create = URL.createObjectURL
URL.createObjectURL = (blob) => {
  blob.text().then((text) => { window.saved = text })
  return create(blob)
}
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def sheets(world: World) -> Iterator[None]:
    """Serve the type `sheet`."""
    with serving_sheets(world):
        yield


def test_every_host_is_listed_with_its_state_version_and_partitions(console: Console, admin: People) -> None:
    console.open("/fleet")
    console.see("data_storage-0")
    hosts = admin.api.get("/fleet").json()["hosts"]
    rows = [row.text for row in console.all("tbody tr")]
    for host in hosts:
        count = sum(map(len, host["partitions"].values()))
        start = f"{host['service']}-{host['replica']} {host['state']} {count} "
        assert any(" ".join(row.split()).startswith(start) and host["version"] in row for row in rows), (start, rows)
    console.all("td summary")[0].click()
    console.see(f"{next(iter(hosts[0]['partitions']))}: ")


def test_the_settings_are_listed_without_their_secrets(console: Console, world: World) -> None:
    console.open("/settings")
    console.see("AIDEVOS_PORT")
    assert world.url.rpartition(":")[2] in console.text
    password = world.servers.mongo_url.partition("@")[0].rpartition(":")[2]
    assert password not in console.browser.page_source


def test_events_are_followed_filtered_and_stopped(console: Console, admin: People) -> None:
    wanted, other = new_name(), new_name()

    def shows(name: str) -> bool:
        for each in (other, name):
            post(admin.api, f"/durable-objects/chat_room:{each}/request", method="post", args={"text": "Hello"})
        return f"chat_room:{name}" in console.text

    console.open("/events")
    console.until(lambda: shows(other))
    console.fill("IDs", wanted)
    console.press("Search", "//main")
    console.press("Clear")
    console.until(lambda: shows(wanted))
    assert f"chat_room:{other}" not in console.text
    console.press("Stop")
    console.see("Not following.")
    console.press("Clear")
    console.see("Nothing has happened")
    console.press("Follow")
    console.until(lambda: shows(wanted))


def test_the_figures_are_live_and_show_the_busiest_object(console: Console, admin: People) -> None:
    name = new_name()
    console.open("/fleet")
    console.see("Busiest objects")

    def is_busy() -> bool:
        for _ in range(5):
            admin.api.post(f"/durable-objects/counter:{name}/request", json={"method": "value"}).raise_for_status()
        return f"counter:{name}" in console.text

    console.until(is_busy)
    console.open()
    console.until(lambda: len(console.all("figure.chart canvas")) == 4)
    assert not [url for url in requested(console.browser) if "/metrics" in url]


def test_dead_letters_are_filtered_by_kind(console: Console) -> None:
    console.open("/dead-letters")
    console.choose("Kind", "alarm")
    console.until(lambda: any("kind=alarm" in url for url in requested(console.browser)))
    console.see("There is no dead letter.")


def test_a_dead_letter_is_sent_again_and_applied(console: Console, world: World, admin: People) -> None:
    name, lost = new_name(), new_name()
    asyncio.run(bury_letters(world, name, lost))
    console.open()
    links = console.until(lambda: [link for link in console.all("main a") if "dead letter" in link.text])
    links[0].click()
    console.see(f"counter:{name}")
    console.press("Send again", f"//tr[td[contains(., 'counter:{name}')]]")
    console.see("It was sent again, and has arrived.")
    ask = {"method": "value"}
    console.until(lambda: admin.api.post(f"/durable-objects/counter:{name}/request", json=ask).json()["result"] == 3)
    console.press("Delete", f"//tr[td[contains(., 'counter:{lost}')]]")
    console.press("Delete", "//dialog")
    console.until(lambda: admin.api.get(f"/dead-letters/{lost}").status_code == 404)


def test_a_dead_letter_that_fails_again_stays_and_says_why(console: Console, world: World) -> None:
    name = new_name()
    asyncio.run(bury_letters(world, name, subject=f"do.counter.{name}.no_method"))
    console.open(f"/dead-letters?source=counter:{name}")
    row = f"//tr[td[contains(., 'counter:{name}')]]"
    console.press("Send again", row)
    console.see("It was sent again, and failed: unknown-method")
    console.press(f"do.counter.{name}.no_method", row)
    console.press(f"counter:{name}", "//dialog")
    console.until(lambda: "/console/objects/counter" in console.browser.current_url)


def test_a_method_is_called_through_a_form_and_its_event_appears(console: Console, admin: People) -> None:
    name = new_name()
    console.open(f"/objects/counter:{name}")
    console.see("This object doesn't exist yet")
    console.choose("Method", "increment")
    console.fill("by", "5")
    console.press("Call increment")
    console.see("answered in")
    console.see("value: 5")
    console.until(lambda: re.search(r"Host\s+\w+-\d+ partition \d+", console.text))
    shown = admin.api.get(f"/durable-objects/counter:{name}").json()
    assert shown["state"] == {"value": 5}
    console.fill("by", "five")
    console.press("Call increment")
    console.see("not valid JSON")
    console.open(f"/objects/chat_room:{name}")
    console.choose("Method", "post")
    console.fill("text", "Hello")

    def is_shown() -> bool:
        # The page may begin to follow only after the first call.
        console.press("Call post")
        return "chat_room.posted" in console.text

    console.until(is_shown)


def test_versions_are_compared_restored_and_forked_and_alarms_shown(
    console: Console, sheets: None, admin: People
) -> None:
    name, fork = new_name(), new_name()
    path = f"/durable-objects/sheet:{name}"
    console.until(lambda: admin.api.get("/durable-objects?type=sheet").status_code == 200)
    for line in ("one", "two"):
        post(admin.api, f"{path}/request", method="add", args={"line": line})
    post(admin.api, f"{path}/request", method="check_later", args={"seconds": 3600})
    console.open(f"/objects/sheet:{name}")
    console.see_row("60 s")
    versions = "//section[@aria-label='Versions']//tr[td[1]='{}']"
    console.press("Compare", versions.format(1))
    console.see_row('["one","two"]')
    console.press("Restore", versions.format(1))
    console.press("Restore", "//dialog")
    console.see("Version 1 is restored.")
    assert admin.api.get(path).json()["state"] == {"lines": ["one"]}
    console.press("Fork", versions.format(2))
    console.fill("Name", fork)
    console.press("Fork", "//dialog")
    console.until(lambda: console.browser.current_url.endswith(f"/console/objects/sheet%3A{fork}"))
    assert admin.api.get(f"/durable-objects/sheet:{fork}").json()["state"] == {"lines": ["one", "two"]}


def test_an_object_is_created_replaced_deleted_and_brought_back(console: Console, admin: People) -> None:
    name = new_name()
    console.open("/objects")
    console.press("New object")
    console.choose("Type", "counter")
    console.fill("Name", name)
    console.fill("State", '{"value": 7}')
    console.press("Create", "//dialog")
    console.see("value: 7")
    console.press("Replace the state")
    console.fill("State", '{"value": 41}')
    console.press("Save")
    console.see("value: 41")
    console.press("Delete")
    console.see("loses its state")
    console.press("Delete", "//dialog")
    console.until(lambda: console.browser.current_url.partition("?")[0].endswith("/console/objects"))
    assert admin.api.get(f"/durable-objects/counter:{name}").status_code == 404
    console.press("Undo")
    console.see("value: 41")
    assert admin.api.get(f"/durable-objects/counter:{name}").json()["state"] == {"value": 41}


def test_an_object_hibernates_and_shows_what_it_has_yet_to_do(console: Console, admin: People) -> None:
    name = new_name()
    admin.api.post("/durable-objects", json={"type": "counter", "name": name}).raise_for_status()
    console.open(f"/objects/counter:{name}")
    console.see("It has no alarm.")
    console.see("Everything is sent.")
    console.press("Hibernate")
    console.see("hibernated")
    assert admin.api.get(f"/durable-objects/counter:{name}").json()["status"] == "hibernated"


def test_the_author_of_a_type_decides_whether_its_state_is_shown(console: Console, admin: People) -> None:
    user = admin.find(admin.name)["id"]
    console.open(f"/objects/user:{user}")
    console.see("shows its state to nobody")
    assert "Alarms" not in console.text


def test_objects_are_searched_by_their_states_and_counted(console: Console, admin: People) -> None:
    wanted, other = new_name(), new_name()
    for name, value in ((wanted, 987_654), (other, 1)):
        body = {"type": "counter", "name": name, "state": {"value": value}}
        admin.api.post("/durable-objects", json=body).raise_for_status()
    console.open("/objects")
    console.choose("Type", "counter")
    console.fill("Search in states", "value > 987653")
    console.press("Search", "//main")
    console.see(f"counter:{wanted}")
    console.until(lambda: f"counter:{other}" not in console.text)
    console.press("Count all")
    console.until(lambda: " objects" in console.text)


def test_objects_of_ready_made_services_are_shown_on_demand(console: Console, admin: People) -> None:
    name = new_name()
    admin.api.post("/durable-objects", json={"type": "counter", "name": name}).raise_for_status()
    console.open("/objects")
    console.see_row("counter:")
    assert not re.search(r"\b(audit|user|role):", console.text)
    console.choose("Ready-made types", "shown")
    console.see_row("audit:")


def test_the_items_of_a_file_are_imported_and_refused_lines_are_named(console: Console, admin: People) -> None:
    name = new_name()
    schema = {"type": "object", "required": ["title"]}
    admin.api.put(f"/data/collections/{name}", json={"schema": schema}).raise_for_status()
    lines = [{"id": f"i{number}", "data": {"title": TITLE}} for number in range(450)] + [{"data": {}}]
    console.open(f"/data/{name}")
    console.see("No item matches")
    console.upload("Import", "items.ndjson", "\n".join(map(json.dumps, lines)))
    console.see("Line 451: ")
    console.see("451 of 451 lines")
    console.all("dialog .close")[0].click()
    console.see("i0")
    assert admin.api.get(f"/data/collections/{name}?count=true&limit=1").json()["count"] == 450
    console.press("Show more")
    console.until(lambda: len(console.all("tbody tr")) == 100)
    console.browser.execute_script(KEEP_SAVED)
    console.press("Export")
    saved = console.until(lambda: console.browser.execute_script("return window.saved"))
    assert sorted(line["id"] for line in map(json.loads, saved.splitlines())) == sorted(f"i{n}" for n in range(450))


def test_a_collection_is_configured_and_its_schema_checked_filtered_and_sorted(console: Console, admin: People) -> None:
    name = new_name()
    path = f"/data/collections/{name}"
    admin.api.put(path, json={}).raise_for_status()
    console.open(f"/data/{name}")
    console.press("Configuration")
    console.fill("read", "public")
    console.fill("Indexes", "price")
    console.fill("Schema", '{"required": ["price"]}')
    console.press("Save", "//dialog")
    console.until(lambda: not console.all("dialog[open]"))
    config = admin.api.get(f"{path}/config").json()
    assert (config["rules"]["read"], config["indexes"]) == ("public", [["price"]])
    console.press("New item")
    console.fill("JSON", '{"title": "free"}')
    console.press("Save", "//dialog")
    console.see('"price" is a required property')
    console.fill("JSON", '{"price": 3}')
    console.press("Save", "//dialog")
    console.until(lambda: not console.all("dialog[open]"))
    for price in (1, 2):
        post(admin.api, path, data={"price": price})
    console.fill("Filter (JSON)", '{"price": {"gt": 1}}')
    console.fill("Sort by", "-price")
    console.press("Search", "//main")
    console.until(lambda: [cell.text for cell in console.all("td code")] == ['{"price":3}', '{"price":2}'])
    console.press("Delete")
    console.press("Delete", "//dialog")
    console.until(lambda: admin.api.get(f"{path}/config").status_code == 404)


def test_an_item_is_created_found_edited_restored_deleted_and_undone(console: Console, admin: People) -> None:
    name = new_name()
    console.open("/data")
    console.press("New collection")
    console.fill("Name", name)
    console.press("Configuration")
    console.check("Keep the history of items")
    console.fill("Indexes", "-price, title")
    console.press("Create")
    console.see("No item matches")
    console.press("New item")
    console.fill("Name", "first")
    console.fill("JSON", json.dumps({"title": TITLE, "price": 3}))
    console.press("Save")
    console.see("first")
    console.open(f'/data/{name}?filter={{"price":{{"gt":2}}}}')
    console.press("first")
    console.fill("JSON", '{"title": "second", "price": 4}')
    console.press("Save")
    console.see('"price":4')
    console.press("first")
    console.press("History")
    console.press("Compare")
    console.see("/price")
    console.press("Restore")
    console.see("is restored")
    path = f"/data/collections/{name}/first"
    assert admin.api.get(path).json()["data"] == {"title": TITLE, "price": 3}
    console.press("first")
    console.press("Delete", "//dialog")
    console.press("Delete", "//dialog[.//*[contains(text(), 'Are you sure')]]")
    console.see("The item is deleted.")
    assert admin.api.get(path).status_code == 404
    console.press("Undo")
    console.until(lambda: admin.api.get(path).status_code == 200)
