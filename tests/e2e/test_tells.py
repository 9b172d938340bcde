"""Tells from clients: published as by any JetStream client, and then applied once or kept as dead letters."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import nats
import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError

from aidevos.contracts.errors import Failure
from aidevos.security.tokens import TokenIssuer
from tests.support.letters import read_until
from tests.support.logins import admin_password, bearer, logged_in, login, new_person
from tests.support.world import NatsEntryPoint, World

WITHIN = 30.0


@pytest.fixture
async def js(world: World) -> AsyncIterator[JetStreamContext]:
    """Connect as the user of clients, with a plain connection that any language has."""
    connection = await nats.connect(world.servers.nats_url("client"))
    yield connection.jetstream()
    await connection.close()


@pytest.fixture
def admin(world: World) -> dict[str, str]:
    return {"Authorization": world.admin}


async def tell(
    js: JetStreamContext, subject: str, payload: bytes = b'{"by":2}', authorization: str | None = None, **more: str
) -> PubAck:
    headers = {"Authorization": authorization} if authorization else {}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return await js.publish(f"tell.{subject}", payload, headers=headers or None)


async def publish(world: World, *subjects: bytes) -> None:
    """Publish empty payloads to subjects that client libraries would refuse."""
    url = urlsplit(world.servers.nats_url("client"))
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    await reader.readline()
    who = json.dumps({"verbose": False, "user": url.username, "pass": url.password})
    writer.write(f"CONNECT {who}\r\n".encode())
    for subject in subjects:
        writer.write(b"PUB %s 0\r\n\r\n" % subject)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"PONG\r\n"
    writer.close()


async def wait_for_count(over_nats: NatsEntryPoint, world: World, id: str, wanted: int) -> None:
    """Return once the counter has this value."""
    value = None
    end = time.monotonic() + WITHIN
    while time.monotonic() < end:
        # After a fault, there may be no owner yet.
        with suppress(Failure, NatsError, TimeoutError):
            async with asyncio.timeout(1):
                value = await over_nats.call("counter", id, "value", authorization=world.admin)
        if value == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the counter has {value}, not {wanted}")


async def wait_for_letter(
    http: httpx2.AsyncClient, headers: dict[str, str], subject: str, source: str = ""
) -> dict[str, Any]:
    """Return the dead letter of the tell to this subject."""
    async with asyncio.timeout(WITHIN):
        while True:
            params = {"source": source, "kind": "tell"}
            page = (await http.get("/dead-letters", params=params, headers=headers)).json()
            for item in page["items"]:
                if item["subject"] == f"do.{subject}":
                    return dict((await http.get(f"/dead-letters/{item['id']}", headers=headers)).json())
            await asyncio.sleep(0.1)


async def test_a_tell_is_acknowledged_and_applied(
    world: World, js: JetStreamContext, over_nats: NatsEntryPoint, new_id: str
) -> None:
    ack = await tell(js, f"counter.{new_id}.increment", authorization=world.admin)

    assert (ack.stream, bool(ack.duplicate)) == ("TELLS", False)
    await wait_for_count(over_nats, world, new_id, 2)


async def test_a_tell_that_is_repeated_under_one_id_is_applied_once(
    world: World, js: JetStreamContext, over_nats: NatsEntryPoint, new_id: str
) -> None:
    """Within the stream's own window, and later by the caller's ID."""
    subject = f"counter.{new_id}.increment"
    acks = [await tell(js, subject, authorization=world.admin, Nats_Msg_Id=new_id) for _ in range(2)]
    for _ in range(2):
        await tell(js, subject, b'{"by":30}', world.admin, Request_Id=f"r{new_id}")
    await tell(js, subject, b'{"by":500}', world.admin)

    assert [bool(ack.duplicate) for ack in acks] == [False, True]
    await wait_for_count(over_nats, world, new_id, 532)


async def test_the_same_id_of_another_caller_is_another_tell(
    world: World, js: JetStreamContext, over_nats: NatsEntryPoint, new_id: str
) -> None:
    for caller in ("ada", "bob"):
        token = world.token("counter:write", subject=f"{caller}{new_id}")
        await tell(js, f"counter.{new_id}.increment", authorization=token, Request_Id=new_id)
    await wait_for_count(over_nats, world, new_id, 4)


async def test_tells_to_an_object_are_applied_in_the_order_in_which_they_were_stored(
    world: World, js: JetStreamContext, over_nats: NatsEntryPoint, http: httpx2.AsyncClient, new_id: str
) -> None:
    """Tells that the owner had taken before it was killed come before those that it had not. Tells whose sender must
    still be looked up come before later ones with a known sender."""
    chief = bearer((await login(http, "admin", admin_password(world))).json())
    key = (await http.post("/api-keys", headers=chief, json={"name": "k", "scopes": ["*"]})).json()["key"]
    ids = [f"{new_id}{number}" for number in range(8)]
    for id in ids:
        await over_nats.call("counter", id, "increment", authorization=world.admin)
    world.signal("objects", signal.SIGSTOP)
    for value in range(1, 21):
        for id in ids:
            sender = f"ApiKey {key}" if value % 2 else world.admin
            await tell(js, f"counter.{id}._replace", b'{"state":{"value":%d}}' % value, sender)
    world.restart("objects")

    for id in ids:
        await wait_for_count(over_nats, world, id, 20)
    # A last tell, after which no other can be under way.
    for id in ids:
        await tell(js, f"counter.{id}.increment", authorization=f"ApiKey {key}")
    for id in ids:
        await wait_for_count(over_nats, world, id, 22)


async def test_a_token_counts_as_it_was_when_the_tell_was_stored(
    world: World,
    js: JetStreamContext,
    over_nats: NatsEntryPoint,
    http: httpx2.AsyncClient,
    admin: dict[str, str],
    new_id: str,
) -> None:
    """A token may expire before the host is back, but not before the tell was stored."""
    brief = "Bearer " + world.issuer.issue(f"ada{new_id}", permissions=("counter:write",), lifetime=2)
    past = TokenIssuer(world.issuer.keys, world.servers.public_url, now=lambda: time.time() - 10_000)
    old = "Bearer " + past.issue(f"bob{new_id}", permissions=("counter:write",))
    world.signal("objects", signal.SIGSTOP)
    try:
        await tell(js, f"counter.{new_id}.increment", authorization=brief)
        await tell(js, f"counter.{new_id}old.increment", authorization=old)
        await asyncio.sleep(3)
    finally:
        world.signal("objects", signal.SIGCONT)

    await wait_for_count(over_nats, world, new_id, 2)
    letter = await wait_for_letter(http, admin, f"counter.{new_id}old.increment")
    assert (letter["code"], letter["from_client"], letter["args"]) == ("unauthenticated", True, None)
    assert "Bearer" not in repr(letter)


@pytest.mark.parametrize(
    ("target", "payload", "code"),
    [
        ("counter.{id}.increment", b'{"by":"two"}', "invalid"),
        ("counter.{id}.increment", b"no json", "bad-request"),
        ("counter.{id}.explode", b"{}", "unknown-method"),
        ("counter.{id}.increment.twice", b"{}", "unknown-method"),
        ("counter.a$.{id}", b"{}", "unknown-method"),
    ],
)
async def test_bad_input_becomes_a_dead_letter_that_says_what_was_wrong(
    world: World,
    js: JetStreamContext,
    http: httpx2.AsyncClient,
    admin: dict[str, str],
    target: str,
    payload: bytes,
    code: str,
) -> None:
    caller = f"c{secrets.token_hex(8)}"
    subject = target.format(id=caller)
    await tell(js, subject, payload, world.token("counter:write", subject=caller))

    letter = await wait_for_letter(http, admin, subject, caller)
    assert (letter["code"], letter["kind"], letter["from_client"]) == (code, "tell", True)


async def test_a_tell_that_no_type_takes_becomes_a_dead_letter_that_says_what_was_wrong(
    world: World, js: JetStreamContext, http: httpx2.AsyncClient, admin: dict[str, str], new_id: str
) -> None:
    codes = {f"nosuch{new_id}.x.increment": "unknown-type", new_id: "bad-request", f"No.Such.{new_id}": "unknown-type"}
    for subject in codes:
        await tell(js, subject, b"{}", world.token("counter:write", subject=new_id))

    for subject, code in codes.items():
        letter = await wait_for_letter(http, admin, subject)
        assert (letter["code"], letter["kind"], letter["from_client"]) == (code, "tell", True)


async def test_a_tell_without_a_credential_or_without_the_right_to_is_a_dead_letter(
    world: World, js: JetStreamContext, http: httpx2.AsyncClient, admin: dict[str, str], new_id: str
) -> None:
    await tell(js, f"counter.{new_id}.increment")
    await tell(js, f"counter.{new_id}b.increment", authorization=world.token("counter:read", subject=new_id))
    await tell(js, f"counter.{new_id}c.increment", authorization="Bearer x.y.z")

    assert (await wait_for_letter(http, admin, f"counter.{new_id}.increment"))["code"] == "unauthenticated"
    assert (await wait_for_letter(http, admin, f"counter.{new_id}b.increment", new_id))["code"] == "forbidden"
    assert (await wait_for_letter(http, admin, f"counter.{new_id}c.increment"))["code"] == "unauthenticated"


async def test_a_poison_tell_ends_as_a_dead_letter_holds_up_no_other_and_replays(
    world: World, js: JetStreamContext, over_nats: NatsEntryPoint, http: httpx2.AsyncClient, new_id: str
) -> None:
    """The sender may not count; the administrator who replays it may."""
    ada = await logged_in(http, new_person())
    subject, admin = f"counter.{new_id}.increment", {"Authorization": world.admin}
    await tell(js, subject, b'{"by":7}', bearer(ada)["Authorization"])
    await tell(js, subject, authorization=world.admin)

    letter = await wait_for_letter(http, admin, subject, ada["user"]["id"])
    await wait_for_count(over_nats, world, new_id, 2)
    replay = await http.post(f"/dead-letters/{letter['id']}/replay", headers=admin)
    assert replay.status_code == 202
    await read_until(http, admin, letter["id"], lambda found: found["status"] == "replayed")
    await wait_for_count(over_nats, world, new_id, 9)


async def test_a_user_who_was_deactivated_tells_nothing(
    world: World, js: JetStreamContext, http: httpx2.AsyncClient, admin: dict[str, str], new_id: str
) -> None:
    ada = await logged_in(http, new_person())
    gone = await http.post(f"/users/{ada['user']['id']}/deactivate", headers=admin)
    assert gone.status_code == 200
    await asyncio.sleep(1)
    await tell(js, f"counter.{new_id}.increment", authorization=bearer(ada)["Authorization"])
    assert (await wait_for_letter(http, admin, f"counter.{new_id}.increment"))["code"] == "unauthenticated"


async def test_an_api_key_tells_within_its_scopes(
    world: World,
    js: JetStreamContext,
    over_nats: NatsEntryPoint,
    http: httpx2.AsyncClient,
    admin: dict[str, str],
    new_id: str,
) -> None:
    ada = await logged_in(http, new_person())
    role = await http.post("/roles", headers=admin, json={"name": f"r{new_id}", "permissions": ["counter:write"]})
    assert role.status_code == 201
    patch = admin | {"Content-Type": "application/merge-patch+json"}
    path = f"/users/{ada['user']['id']}"
    given = await http.patch(path, headers=patch, json={"roles": ["user", f"r{new_id}"]})
    assert given.status_code == 200
    await asyncio.sleep(1)
    body = {"name": "k", "scopes": [f"counter:write:id={new_id}"]}
    key = (await http.post("/api-keys", headers=bearer(ada), json=body)).json()["key"]

    await tell(js, f"counter.{new_id}.increment", authorization=f"ApiKey {key}")
    await tell(js, f"counter.{new_id}b.increment", authorization=f"ApiKey {key}")
    await wait_for_count(over_nats, world, new_id, 2)
    assert (await wait_for_letter(http, admin, f"counter.{new_id}b.increment", ada["user"]["id"]))[
        "code"
    ] == "forbidden"


async def test_a_subject_that_is_no_text_makes_nobody_deaf(
    world: World,
    js: JetStreamContext,
    over_nats: NatsEntryPoint,
    http: httpx2.AsyncClient,
    admin: dict[str, str],
    new_id: str,
) -> None:
    await publish(world, *(b"%s.counter.%s\xff.increment" % (door, new_id.encode()) for door in (b"do", b"tell")))

    await tell(js, f"counter.{new_id}.increment", authorization=world.admin)

    await wait_for_count(over_nats, world, new_id, 2)
    assert (await wait_for_letter(http, admin, f"counter.{new_id}\ufffd.increment"))["code"] == "unauthenticated"


async def test_a_subject_that_is_none_becomes_a_dead_letter_and_takes_no_other_tell_with_it(
    world: World,
    js: JetStreamContext,
    over_nats: NatsEntryPoint,
    http: httpx2.AsyncClient,
    admin: dict[str, str],
    new_id: str,
) -> None:
    """Wildcards, which the server takes literally in published subjects, and bytes that are not text."""
    await over_nats.call("counter", new_id, "increment", authorization=world.admin)
    world.signal("objects", signal.SIGSTOP)
    await tell(js, f"counter.{new_id}.increment", authorization=world.admin)
    await tell(js, f"*.{new_id}.*")
    await publish(world, b"tell.none\xff.%s.x" % new_id.encode())

    try:
        for subject in (f"*.{new_id}.*", f"none\ufffd.{new_id}.x"):
            assert (await wait_for_letter(http, admin, subject))["code"] == "unknown-type"
    finally:
        world.restart("objects")
    await wait_for_count(over_nats, world, new_id, 3)


async def test_a_tell_that_is_too_large_is_refused_at_once(world: World, js: JetStreamContext, new_id: str) -> None:
    with pytest.raises(APIError, match="size"):
        await tell(js, f"counter.{new_id}.increment", b"x" * 1_100_000, world.admin)


async def test_tells_are_applied_once_each_though_the_host_is_killed(
    world: World, js: JetStreamContext, over_nats: NatsEntryPoint, new_id: str
) -> None:
    ids = [f"{new_id}{number}" for number in range(5)]
    for round in range(3):
        told = [tell(js, f"counter.{id}.increment", b'{"by":1}', world.admin) for id in ids for _ in range(40)]
        sending = asyncio.gather(*told)
        if round:
            world.restart("objects")
        await sending
    for id in ids:
        await wait_for_count(over_nats, world, id, 120)
    # Tells to one object are applied in order: a duplicate would count before these.
    await asyncio.gather(*(tell(js, f"counter.{id}.increment", b'{"by":1}', world.admin) for id in ids))
    for id in ids:
        await wait_for_count(over_nats, world, id, 121)


async def test_tells_survive_a_restart_of_nats(world: World, over_nats: NatsEntryPoint, new_id: str) -> None:
    connection = await nats.connect(world.servers.nats_url("client"))
    js = connection.jetstream()
    for number in range(50):
        await tell(js, f"counter.{new_id}.increment", b'{"by":1}', world.admin, Request_Id=f"{new_id}{number}")
    await connection.close()
    world.servers.nats.kill()
    world.servers.nats.start()
    await wait_for_count(over_nats, world, new_id, 50)
