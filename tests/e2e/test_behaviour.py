"""The behaviour of objects, once over HTTP and once over NATS."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import msgspec
import nats
import pytest
from nats.aio.client import Client

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.events import AnyEvent
from aidevos.contracts.fleet import FleetHosts
from tests.support.world import SERVICES, EntryPoint, NatsEntryPoint, World

DEEP = b'{"by":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


async def refused(door: EntryPoint, *args: Any, **options: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await door.call(*args, **options)
    return caught.value


async def test_a_command_on_an_id_that_was_never_made_makes_it(door: EntryPoint, world: World, new_id: str) -> None:
    assert await door.call("counter", new_id, "increment", b'{"by":2}', authorization=world.admin) == 2
    shown = await door.call("counter", new_id, "_read", authorization=world.admin)

    assert shown["version"] == 1
    assert shown["state"] == {"value": 2}
    assert shown["object_id"] == f"counter:{new_id}"
    assert shown["status"] == "active"


async def test_a_query_on_an_id_that_was_never_made_sees_the_default_and_writes_nothing(
    door: EntryPoint, world: World, new_id: str
) -> None:
    assert await door.call("counter", new_id, "value", authorization=world.admin) == 0

    assert (await refused(door, "counter", new_id, "_read", authorization=world.admin)).code == "not-found"


async def test_after_a_deletion_the_next_command_starts_anew(door: EntryPoint, world: World, new_id: str) -> None:
    await door.call("counter", new_id, "increment", b'{"by":5}', authorization=world.admin)
    await door.call("counter", new_id, "_delete", authorization=world.admin)

    assert (await refused(door, "counter", new_id, "_read", authorization=world.admin)).status == 404
    assert await door.call("counter", new_id, "value", authorization=world.admin) == 0
    assert await door.call("counter", new_id, "increment", authorization=world.admin) == 1


async def test_an_object_is_made_once(door: EntryPoint, world: World, new_id: str) -> None:
    made = await door.call("counter", new_id, "_create", b'{"state":{"value":7}}', authorization=world.admin)
    again = await refused(door, "counter", new_id, "_create", authorization=world.admin)

    assert made["state"] == {"value": 7}
    assert made["version"] == 1
    assert again.code == "exists"


async def test_if_match_is_honoured_on_every_change(door: EntryPoint, world: World, new_id: str) -> None:
    await door.call("counter", new_id, "_create", authorization=world.admin)
    stale = {"If-Match": '"7"'}

    for method, payload in (("_replace", b'{"state":{"value":1}}'), ("_delete", b"{}"), ("increment", b"{}")):
        failure = await refused(door, "counter", new_id, method, payload, authorization=world.admin, headers=stale)
        assert failure.code == "precondition-failed"
    fresh = {"If-Match": '"1"'}
    replaced = await door.call(
        "counter", new_id, "_replace", b'{"state":{"value":3}}', authorization=world.admin, headers=fresh
    )
    assert replaced["version"] == 2


async def test_a_repeated_request_gets_the_recorded_answer(door: EntryPoint, world: World, new_id: str) -> None:
    same = {"Request-Id": "order-7"}
    first = await door.call("counter", new_id, "increment", b'{"by":2}', authorization=world.admin, headers=same)
    second = await door.call("counter", new_id, "increment", b'{"by":2}', authorization=world.admin, headers=same)
    other = await refused(door, "counter", new_id, "increment", b'{"by":3}', authorization=world.admin, headers=same)
    stranger = world.token(subject="stranger", roles=("admin",))
    theirs = await door.call("counter", new_id, "increment", b'{"by":3}', authorization=stranger, headers=same)

    assert (first, second, theirs) == (2, 2, 5)
    assert other.code == "request-id-reused"


@pytest.mark.parametrize(
    ("payload", "status", "field"),
    [
        (b'{"by":"two"}', 422, "args.by"),
        (b'{"bi":2}', 422, "args.bi"),
        (b'{"by":9223372036854775808}', 422, "args.by"),
        (b'{"by":1e400}', (400, 422), None),
        (b"[1]", 422, "args"),
        (b"nul", 400, None),
        (b'{"by":2', 400, None),
        (b"\xff\xfe", 400, None),
        (DEEP, 422, None),
    ],
)
async def test_bad_arguments_are_refused_with_the_field(
    door: EntryPoint, world: World, new_id: str, payload: bytes, status: int | tuple[int, ...], field: str | None
) -> None:
    failure = await refused(door, "counter", new_id, "increment", payload, authorization=world.admin)

    assert failure.status in (status if isinstance(status, tuple) else (status,))
    if field:
        assert failure.field == field
    assert await door.call("counter", new_id, "value", authorization=world.admin) == 0


async def test_a_state_with_an_unknown_field_is_refused(door: EntryPoint, world: World, new_id: str) -> None:
    failure = await refused(door, "counter", new_id, "_create", b'{"state":{"valeu":1}}', authorization=world.admin)

    assert failure.status == 422
    assert failure.field == "state.valeu"


async def test_an_overflow_inside_a_turn_is_refused_and_leaves_no_trace(
    door: EntryPoint, world: World, new_id: str
) -> None:
    most = b'{"by":9223372036854775807}'
    await door.call("counter", new_id, "increment", most, authorization=world.admin)
    failure = await refused(door, "counter", new_id, "increment", authorization=world.admin)

    assert failure.status == 422
    assert await door.call("counter", new_id, "value", authorization=world.admin) == 2**63 - 1


async def test_an_unknown_method_is_a_404(door: EntryPoint, world: World, new_id: str) -> None:
    assert (await refused(door, "counter", new_id, "fly", authorization=world.admin)).code == "unknown-method"


@pytest.mark.parametrize(("deadline", "status"), [("0", 408), ("-5", 408), ("soon", 400)])
async def test_a_deadline_in_the_past_is_refused(
    door: EntryPoint, world: World, new_id: str, deadline: str, status: int
) -> None:
    failure = await refused(
        door, "counter", new_id, "increment", authorization=world.admin, headers={"Deadline": deadline}
    )

    assert failure.status == status
    assert await door.call("counter", new_id, "value", authorization=world.admin) == 0


async def test_money_moves_once_and_no_unit_is_made_or_lost(door: EntryPoint, world: World, new_id: str) -> None:
    payer, payee = f"{new_id}-a", f"{new_id}-b"
    await door.call("account", payer, "deposit", b'{"amount":100}', authorization=world.admin)
    arguments = b'{"to":"' + payee.encode() + b'","amount":30}'
    same = {"Request-Id": "rent"}
    transfer = await door.call("account", payer, "transfer", arguments, authorization=world.admin, headers=same)
    again = await door.call("account", payer, "transfer", arguments, authorization=world.admin, headers=same)

    assert transfer == again
    balance = {"under_way": 1}
    while balance["under_way"]:
        balance = await door.call("account", payer, "balance", authorization=world.admin)
    there = await door.call("account", payee, "balance", authorization=world.admin)
    assert (balance["balance"], there["balance"]) == (70, 30)
    poor = await refused(door, "account", payee, "transfer", arguments, authorization=world.admin)
    assert poor.status in (409, 422)


async def test_a_plain_publish_is_executed_and_its_errors_are_counted(world: World, new_id: str) -> None:
    connection = await nats.connect(world.servers.nats_url("client"))
    door = NatsEntryPoint(connection)
    before = await _failures(connection, world)
    headers = {"Authorization": world.admin}

    await connection.publish(subjects.call("counter", new_id, "increment"), b'{"by":4}', headers=headers)
    await connection.publish(subjects.call("counter", new_id, "increment"), b'{"by":"no"}', headers=headers)

    assert await door.call("counter", new_id, "value", authorization=world.admin) == 4
    assert await _failures(connection, world) == before + 1
    await connection.close()


async def test_a_host_publishes_to_no_reply_subject_that_is_not_an_inbox(world: World, new_id: str) -> None:
    connection = await nats.connect(world.servers.nats_url("client"))
    overheard = await connection.subscribe("event.>")
    insider = await nats.connect(world.servers.nats_url("gateway"))
    await insider.publish(
        subjects.call("counter", new_id, "increment"),
        reply="event.account.victim.transfer_settled",
        headers={"Authorization": world.admin},
    )
    await insider.close()

    assert await NatsEntryPoint(connection).call("counter", new_id, "value", authorization=world.admin) == 0
    assert overheard.pending_msgs == 0
    await connection.close()


async def test_operators_see_each_host_with_its_partitions(world: World) -> None:
    async with httpx2.AsyncClient(base_url=world.url) as http:
        answer = await http.get("/fleet", headers={"Authorization": world.token("fleet:read")})

    hosts = msgspec.json.decode(answer.content, type=FleetHosts).hosts
    assert {host.service for host in hosts} == set(SERVICES) - {"task_worker", "http_gateway"}
    owned = [number for host in hosts for number in host.partitions.get("counter", [])]
    assert sorted(owned) == list(range(subjects.PARTITIONS))
    assert {host.state for host in hosts} == {"serving"}


async def test_operators_are_told_that_a_host_has_taken_partitions(world: World) -> None:
    reader = await nats.connect(world.servers.nats_url("fleet"))
    stream = reader.jetstream()
    joined = await stream.get_last_msg(subjects.EVENTS_STREAM, "event.fleet.projects.host_joined")
    taken = await stream.get_last_msg(subjects.EVENTS_STREAM, "event.fleet.projects.partitions_taken")
    await reader.close()

    host = msgspec.json.decode(joined.data or b"", type=AnyEvent)
    move = msgspec.json.decode(taken.data or b"", type=AnyEvent)
    assert host.data["incarnation"] == move.data["incarnation"]
    assert move.data["partitions"]


async def _failures(connection: Client, world: World) -> float:
    """Return how many invalid requests over NATS the objects service has counted."""
    reply = await connection.request(subjects.metrics("objects"), headers={"Authorization": world.admin})
    found = re.search(r'aidevos_failures_total\{code="invalid",door="nats"\} (\S+)', reply.data.decode())
    return float(found[1]) if found else 0.0
