"""Webhooks through the whole fleet: authorised, signed, and delivered eventually, whichever process dies."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from standardwebhooks import WebhookVerificationError

from aidevos import new_id
from aidevos.contracts.errors import Failure
from tests.support.host_processes import eventually
from tests.support.people import Person, made
from tests.support.receiver import Receiver
from tests.support.webhooks import remove_webhooks
from tests.support.world import NatsEntryPoint, World

MakePerson = Callable[[], Awaitable[Person]]
MERGE = {"Content-Type": "application/merge-patch+json"}
ITEMS = ["item.*"]


@pytest.fixture(autouse=True)
def _removed(world: World) -> Iterator[None]:
    """Remove the webhooks of each test."""
    yield
    remove_webhooks(world)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def ada(person: MakePerson) -> Person:
    return await person()


async def hook(http: httpx2.AsyncClient, who: Person, url: str, events: list[str], **more: Any) -> Any:
    """Create a webhook, and return it once all processes know it."""
    made_one = await made(http, "/webhooks", who, url=url, events=events, **more)
    await wait_until_known(http, who, made_one["id"])
    return made_one


async def wait_until_known(http: httpx2.AsyncClient, who: Person, id: str) -> None:
    """Wait for the second within which a change takes effect everywhere."""
    await asyncio.sleep(1.0)


async def item(http: httpx2.AsyncClient, who: Person, collection: str) -> str:
    return str((await made(http, f"/data/collections/{collection}", who, data={"n": 1}))["id"])


async def delivery(http: httpx2.AsyncClient, who: Person, webhook: str, status: str, **more: Any) -> Any:
    """Return the latest delivery of a webhook with this status, once there is one."""
    async with asyncio.timeout(30):
        while True:
            page = await http.get(f"/webhooks/{webhook}/deliveries", headers=who.headers, params={"status": status})
            assert page.status_code == 200, page.text
            found = [each for each in page.json()["items"] if more.items() <= each.items()]
            if found:
                return found[0]
            await asyncio.sleep(0.05)


async def test_an_event_arrives_signed_for_who_may_see_it_alone(
    http: httpx2.AsyncClient, ada: Person, person: MakePerson, receiver: Receiver
) -> None:
    collection, bob = f"c{secrets.token_hex(8)}", await person()
    mine = await hook(http, ada, receiver.url("ada"), ["item.created"])
    await hook(http, bob, receiver.url("bob"), ITEMS)

    id = await item(http, ada, collection)

    got = (await receiver.until(1, "ada"))[0]
    assert got.verified(mine["secret"])["data"] == {"id": id, "collection": collection, "version": 1}
    assert got.event["type"] == "item.created"
    with pytest.raises(WebhookVerificationError):
        got._replace(body=got.body + b" ").verified(mine["secret"])
    log = await delivery(http, ada, mine["id"], "delivered")
    assert (log["id"], log["tries"], log["attempts"][0]["status"]) == (got.id, 1, 204)
    changed = await http.put(f"/data/collections/{collection}/{id}", headers=ada.headers, json={"data": 2})
    assert changed.status_code == 200
    await item(http, bob, f"c{secrets.token_hex(8)}")
    assert [each.event["type"] for each in await receiver.until(1, "bob")] == ["item.created"]
    assert [each.event["type"] for each in receiver.at("ada")] == ["item.created"]


async def test_who_loses_access_gets_no_more(
    http: httpx2.AsyncClient, ada: Person, person: MakePerson, receiver: Receiver
) -> None:
    bob = await person()
    project = (await made(http, "/projects", ada, name="p"))["id"]
    member = await http.put(f"/projects/{project}/members/{bob.id}", headers=ada.headers, json={"role": "viewer"})
    assert member.status_code == 200
    await hook(http, bob, receiver.url("bob"), ["task.created"])
    await hook(http, ada, receiver.url("ada"), ["task.created"])
    await made(http, f"/projects/{project}/tasks", ada, kind="report")
    await receiver.until(1, "bob")

    assert (await http.delete(f"/projects/{project}/members/{bob.id}", headers=ada.headers)).status_code == 204
    await asyncio.sleep(1.0)
    await made(http, f"/projects/{project}/tasks", ada, kind="report")

    await receiver.until(2, "ada")
    assert len(receiver.at("bob")) == 1


async def test_a_retry_asks_anew_who_may_see_the_event(
    http: httpx2.AsyncClient, world: World, ada: Person, receiver: Receiver
) -> None:
    mine = await hook(http, ada, receiver.url("ada"), ITEMS)
    receiver.answers["/ada"] = 500
    await item(http, ada, f"c{secrets.token_hex(8)}")
    await receiver.until(1, "ada")

    gone = await http.post(f"/users/{ada.id}/deactivate", headers={"Authorization": world.admin})
    assert gone.status_code == 200

    admin = Person("admin", "admin", {"Authorization": world.admin})
    failed = await delivery(http, admin, mine["id"], "failed")
    assert failed["reason"] == "the webhook's owner may not see the event"


async def test_what_could_not_be_delivered_is_delivered_later(
    http: httpx2.AsyncClient, ada: Person, receiver: Receiver
) -> None:
    mine = await hook(http, ada, receiver.url(), ITEMS)
    await receiver.stop()
    await item(http, ada, f"c{secrets.token_hex(8)}")
    pending = await delivery(http, ada, mine["id"], "pending")
    async with asyncio.timeout(20):
        while not pending["tries"]:
            pending = await delivery(http, ada, mine["id"], "pending")
    assert pending["attempts"][0]["status"] is None
    assert "can't be reached" in pending["attempts"][0]["error"]
    assert (await http.get(f"/webhooks/{mine['id']}", headers=ada.headers)).json()["failing_since"] is not None

    await receiver.start()

    arrived = await delivery(http, ada, mine["id"], "delivered")
    assert [each.id for each in receiver.at()] == [arrived["id"]]

    async def has_recovered() -> bool:
        return (await http.get(f"/webhooks/{mine['id']}", headers=ada.headers)).json()["failing_since"] is None

    await eventually(has_recovered)


async def test_no_event_is_lost_when_the_service_is_killed_in_the_middle(
    http: httpx2.AsyncClient, world: World, ada: Person, receiver: Receiver
) -> None:
    collection, gate = f"c{secrets.token_hex(8)}", asyncio.Event()
    mine = await hook(http, ada, receiver.url("ada"), ITEMS, collections=[collection])
    receiver.gates["/ada"] = gate
    ids = {await item(http, ada, collection) for _ in range(20)}
    await receiver.until_asked("ada")

    world.restart("events")
    gate.set()
    ids |= {await item(http, ada, collection) for _ in range(20)}

    got = await receiver.until(40, "ada", within=60)
    sent: dict[str, str] = {}
    for each in got:
        assert sent.setdefault(each.event["data"]["id"], each.id) == each.id
        each.verified(mine["secret"])
    assert set(sent) == ids


async def test_a_slow_receiver_holds_nobody_up(http: httpx2.AsyncClient, ada: Person, receiver: Receiver) -> None:
    collection = f"c{secrets.token_hex(8)}"
    receiver.gates["/slow"] = asyncio.Event()
    await made(http, "/webhooks", ada, url=receiver.url("slow"), events=ITEMS, collections=[collection])
    await hook(http, ada, receiver.url("fast"), ITEMS, collections=[collection])

    await asyncio.gather(*(item(http, ada, collection) for _ in range(50)))

    await receiver.until(50, "fast", within=20)
    assert receiver.at("slow") == []
    assert receiver.waiting["/slow"] == 20


async def test_a_receiver_that_is_gone_disables_its_webhook(
    http: httpx2.AsyncClient, world: World, ada: Person, receiver: Receiver
) -> None:
    mine = await hook(http, ada, receiver.url("gone"), ITEMS)
    receiver.answers["/gone"] = 410
    await item(http, ada, f"c{secrets.token_hex(8)}")

    failed = await delivery(http, ada, mine["id"], "failed")

    assert failed["reason"] == "the receiver responded with 410"
    path = f"/webhooks/{mine['id']}"
    parameters = {"target": mine["id"], "action": "webhook.disabled"}

    async def is_disabled() -> bool:
        shown = (await http.get(path, headers=ada.headers)).json()
        log = (await http.get("/audit", headers={"Authorization": world.admin}, params=parameters)).json()["items"]
        told = [shown["disabled_reason"], *(entry["reason"] for entry in log)]
        return not shown["active"] and told == ["the receiver responded with 410"] * 2

    await eventually(is_disabled)
    again = await http.patch(path, headers=ada.headers | MERGE, json={"active": True})
    assert (again.json()["active"], again.json()["disabled_reason"]) == (True, "")


async def test_a_delivery_that_has_failed_is_replayed_under_its_id(
    http: httpx2.AsyncClient, ada: Person, receiver: Receiver
) -> None:
    mine = await hook(http, ada, receiver.url("ada"), ITEMS)
    off = await http.patch(f"/webhooks/{mine['id']}", headers=ada.headers | MERGE, json={"active": False})
    assert off.status_code == 200
    tested = await http.post(f"/webhooks/{mine['id']}/test", headers=ada.headers)
    assert tested.status_code == 202
    id = tested.json()["delivery_id"]
    failed = await delivery(http, ada, mine["id"], "failed", id=id)
    assert failed["reason"] == "the webhook is inactive"
    on = await http.patch(f"/webhooks/{mine['id']}", headers=ada.headers | MERGE, json={"active": True})
    assert on.status_code == 200

    path = f"/webhooks/{mine['id']}/deliveries/{id}"
    stale = await http.post(f"{path}/replay", headers=ada.headers | {"If-Match": '"1"'})
    replayed = await http.post(f"{path}/replay", headers=ada.headers)

    assert (stale.status_code, replayed.status_code) == (412, 202)
    got = (await receiver.until(1, "ada"))[0]
    assert (got.id, got.verified(mine["secret"])["type"]) == (id, "webhook.test")
    arrived = await delivery(http, ada, mine["id"], "delivered", id=id)
    assert (arrived["replays"], arrived["event_type"], arrived["object_id"]) == (
        1,
        "webhook.test",
        f"webhook:{mine['id']}",
    )
    shown = await http.get(path, headers=ada.headers)
    assert (shown.json(), shown.headers["etag"]) == (arrived, f'"{arrived["version"]}"')


async def test_both_secrets_sign_while_one_takes_the_others_place(
    http: httpx2.AsyncClient, ada: Person, receiver: Receiver
) -> None:
    mine = await hook(http, ada, receiver.url("ada"), ITEMS)
    path = f"/webhooks/{mine['id']}"
    key = ada.headers | {"Idempotency-Key": secrets.token_hex(8)}
    rotated = await http.post(f"{path}/rotate-secret", headers=key, json={"overlap": 600})
    again = await http.post(f"{path}/rotate-secret", headers=key, json={"overlap": 600})
    assert (await http.post(f"{path}/test", headers=ada.headers)).status_code == 202
    assert rotated.json()["secret"] == again.json()["secret"] != mine["secret"]

    first = (await receiver.until(1, "ada"))[0]
    first.verified(mine["secret"])
    first.verified(rotated.json()["secret"])

    last = await http.post(f"{path}/rotate-secret", headers=ada.headers, json={"overlap": 0})
    assert (await http.post(f"{path}/test", headers=ada.headers)).status_code == 202
    second = (await receiver.until(2, "ada"))[1]
    second.verified(last.json()["secret"])
    with pytest.raises(WebhookVerificationError):
        second.verified(rotated.json()["secret"])


async def test_a_webhook_is_its_owners_alone(
    http: httpx2.AsyncClient,
    world: World,
    over_nats: NatsEntryPoint,
    ada: Person,
    person: MakePerson,
    receiver: Receiver,
) -> None:
    eve = await person()
    mine = await made(http, "/webhooks", ada, url=receiver.url(), events=["*"])
    tested = await http.post(f"/webhooks/{mine['id']}/test", headers=ada.headers)
    id = tested.json()["delivery_id"]
    await delivery(http, ada, mine["id"], "delivered", id=id)
    path = f"/webhooks/{mine['id']}"
    asked = [
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}/rotate-secret"),
        ("POST", f"{path}/test"),
        ("GET", f"{path}/deliveries"),
        ("GET", f"{path}/deliveries/{id}"),
        ("POST", f"{path}/deliveries/{id}/replay"),
    ]

    assert [(await http.request(verb, at, headers=eve.headers)).status_code for verb, at in asked] == [404] * 7
    theirs = await made(http, "/webhooks", eve, url=receiver.url(), events=["*"])
    elsewhere = await http.get(f"/webhooks/{theirs['id']}/deliveries/{id}", headers=ada.headers)
    assert elsewhere.status_code == 404
    for who, seen in ((ada, [mine["id"]]), (eve, [theirs["id"]])):
        page = (await http.get("/webhooks", headers=who.headers, params={"owner": ada.id})).json()
        assert [each["id"] for each in page["items"]] == seen
        assert "secret" not in page["items"][0]
        found = await over_nats.query("webhook", "search", {"owner": ada.id}, authorization=who.authorization)
        assert [each["id"] for each in found["items"]] == seen
    for method, type in (("read", "webhook"), ("read", "delivery"), ("replay", "delivery")):
        with pytest.raises(Failure) as refused:
            await over_nats.call(type, mine["id"] if type == "webhook" else id, method, authorization=eve.authorization)
        assert refused.value.code == "not-found"
    with pytest.raises(Failure) as refused:
        await over_nats.call("webhook", mine["id"], "target", authorization=ada.authorization)
    assert refused.value.code == "forbidden"
    admin = {"Authorization": world.admin}
    assert (await http.get(path, headers=admin)).status_code == 200
    assert (await http.post(f"{path}/rotate-secret", headers=admin)).status_code == 403
    assert (await http.delete(path, headers=admin)).status_code == 204


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://10.0.0.1/x"}, "url"),
        ({"url": "http://localhost.localdomain@127.0.0.2/"}, "url"),
        ({"url": "http://127.0.0.1:80/"}, "url"),
        ({"url": "http://[::1]/"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "ftp://example.org/"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["item"]}, "events[0]"),
        ({"events": ["*.created"]}, "events[0]"),
        ({"collections": ["a b"]}, "collections[0]"),
    ],
)
async def test_what_may_not_be_is_refused_by_its_field(
    http: httpx2.AsyncClient, ada: Person, receiver: Receiver, change: dict[str, Any], field: str
) -> None:
    body = {"url": receiver.url(), "events": ITEMS} | change
    refused = await http.post("/webhooks", headers=ada.headers, json=body)
    assert (refused.status_code, refused.json()["field"]) == (422, field)
    mine = await made(http, "/webhooks", ada, url=receiver.url(), events=ITEMS)
    patched = await http.patch(f"/webhooks/{mine['id']}", headers=ada.headers | MERGE, json=change)
    assert (patched.status_code, patched.json()["field"]) == (422, field)


async def test_a_repeat_makes_no_second_webhook_and_shows_the_secret_again(
    http: httpx2.AsyncClient, ada: Person, receiver: Receiver
) -> None:
    headers = ada.headers | {"Idempotency-Key": secrets.token_hex(8)}
    body = {"url": receiver.url(), "events": ITEMS}
    first = await http.post("/webhooks", headers=headers, json=body)
    again = await http.post("/webhooks", headers=headers, json=body)
    assert (first.status_code, again.json()) == (201, first.json())
    assert first.headers["location"] == f"/webhooks/{first.json()['id']}"
    assert len((await http.get("/webhooks", headers=ada.headers)).json()["items"]) == 1


async def test_a_webhook_over_nats_is_the_same(over_nats: NatsEntryPoint, ada: Person, receiver: Receiver) -> None:
    id = new_id()
    args = {"url": receiver.url("ada"), "events": ["*"]}
    token = ada.authorization
    mine = await over_nats.call("webhook", id, "create", msgspec.json.encode(args), authorization=token)
    sent = await over_nats.call("webhook", id, "test", authorization=token)
    got = (await receiver.until(1, "ada"))[0]
    assert (got.id, got.verified(mine["secret"])["type"]) == (sent["delivery_id"], "webhook.test")


async def test_an_api_keys_webhook_gets_what_the_key_allows(
    http: httpx2.AsyncClient, ada: Person, receiver: Receiver
) -> None:
    mine, other = (f"c{secrets.token_hex(8)}" for _ in range(2))
    scopes = ["webhooks:self", "events:read", f"data:read:collection={mine}"]
    key = (await made(http, "/api-keys", ada, name="ci", scopes=scopes))["key"]
    program = Person(ada.id, ada.name, {"X-Api-Key": key})
    wide = await made(http, "/webhooks", ada, url=receiver.url("ada"), events=ITEMS)
    await hook(http, program, receiver.url("program"), ITEMS)
    refused = await http.patch(
        f"/webhooks/{wide['id']}", headers=program.headers | MERGE, json={"url": receiver.url("program")}
    )
    assert refused.status_code == 403

    await item(http, ada, other)
    id = await item(http, ada, mine)

    await receiver.until(2, "ada")
    assert [each.event["data"]["id"] for each in await receiver.until(1, "program")] == [id]


async def test_webhooks_go_with_their_user(
    http: httpx2.AsyncClient, world: World, ada: Person, receiver: Receiver
) -> None:
    mine = await made(http, "/webhooks", ada, url=receiver.url("ada"), events=["*"])
    tested = await http.post(f"/webhooks/{mine['id']}/test", headers=ada.headers)
    id = tested.json()["delivery_id"]
    await delivery(http, ada, mine["id"], "delivered", id=id)
    admin = {"Authorization": world.admin}

    assert (await http.delete(f"/users/{ada.id}", headers=admin)).status_code == 204

    paths = (f"/webhooks/{mine['id']}", f"/webhooks/{mine['id']}/deliveries/{id}")

    async def are_gone() -> bool:
        return [(await http.get(path, headers=admin)).status_code for path in paths] == [404, 404]

    await eventually(are_gone)


async def test_a_paused_service_delivers_what_happened_meanwhile(
    http: httpx2.AsyncClient, world: World, ada: Person, receiver: Receiver
) -> None:
    collection = f"c{secrets.token_hex(8)}"
    await hook(http, ada, receiver.url("ada"), ITEMS, collections=[collection])
    world.signal("events", signal.SIGSTOP)
    try:
        ids = {await item(http, ada, collection) for _ in range(5)}
    finally:
        world.signal("events", signal.SIGCONT)

    got = await receiver.until(5, "ada", within=60)

    assert {each.event["data"]["id"] for each in got} == ids
