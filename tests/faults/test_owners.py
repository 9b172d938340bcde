"""Hosts that are paused, killed or stopped: one owner at a time, nothing stale, nothing dropped."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from aidevos import DurableObjectClient
from aidevos.contracts import envelope
from aidevos.durable.client.client import RequestIds, failure_of
from tests.support.host_processes import HostProcess, client, eventually
from tests.support.raw_requests import Raw
from tests.support.servers import Servers


@asynccontextmanager
async def two_hosts(
    servers: Servers, database: str, folder: Path, caller: DurableObjectClient, id: str
) -> AsyncIterator[list[HostProcess]]:
    """Start an owner that has served the object, and a standby. Each is ended that still runs then."""
    with ExitStack() as stack:
        owner = stack.enter_context(closing(HostProcess(servers, database, folder, replica=0)))
        assert await caller.call("tally", id, "add") == 1
        yield [owner, stack.enter_context(closing(HostProcess(servers, database, folder, replica=1)))]


async def taken_over(caller: DurableObjectClient, id: str) -> bool:
    return bool(await caller.call("tally", id, "add") > 1)


@pytest.mark.timeout(90)
async def test_a_query_that_waited_in_a_paused_owner_is_not_answered_from_its_memory(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    id = secrets.token_hex(6)
    async with (
        client(servers) as (caller, connection),
        two_hosts(servers, database, tmp_path, caller, id) as hosts,
    ):
        raw = Raw(connection, servers)
        await raw.listen()
        hosts[0].signal(signal.SIGSTOP)
        await raw.send(id, "value")
        assert await taken_over(caller, id)
        before = len(raw.replies)
        await raw.send(id, "value")
        await eventually(lambda: _count(raw, before + 1))

        hosts[0].signal(signal.SIGCONT)
        await _wait_until_served_again(servers, hosts[0])
        await raw.send(id, "value")
        # The paused owner refuses the first two requests, and the new owner answers the last two.
        await eventually(lambda: _count(raw, 4))

    refused = {failure.code for reply in raw.replies if (failure := failure_of(reply))}
    # What the owner had already passed to its object is dropped with the object.
    assert refused
    assert refused <= {"moved", "unavailable"}
    assert {reply.data for reply in raw.replies if not failure_of(reply)} == {b"2"}


@pytest.mark.timeout(90)
async def test_a_late_copy_of_an_acknowledged_request_changes_nothing(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    id = secrets.token_hex(6)
    async with (
        client(servers) as (caller, connection),
        two_hosts(servers, database, tmp_path, caller, id) as hosts,
    ):
        raw = Raw(connection, servers)
        await raw.listen()
        hosts[0].signal(signal.SIGSTOP)
        request = caller.call("tally", id, "add")
        late = asyncio.create_task(request)
        assert await late == 2
        assert await caller.call("tally", id, "add") == 3

        hosts[0].signal(signal.SIGCONT)
        await _wait_until_served_again(servers, hosts[0])
        hosts[1].signal(signal.SIGKILL)
        value = await caller.call("tally", id, "value")

    assert value == 3


@pytest.mark.timeout(90)
async def test_a_copy_below_the_mark_of_its_client_is_refused_by_the_next_owner(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    id = secrets.token_hex(6)
    requests = RequestIds()
    number, later = str(requests.take()), str(requests.take())
    incarnation = requests.client
    async with client(servers) as (caller, connection):
        host = HostProcess(servers, database, tmp_path)
        try:
            assert await caller.call("tally", id, "value") == 0
            raw = Raw(connection, servers)
            await raw.listen()
            await raw.send(id, "add", Request_Id=f"{incarnation}.{number}", Request_Ack=number)
            await eventually(lambda: _count(raw, 1))
            await raw.send(id, "add", Request_Id=f"{incarnation}.{later}", Request_Ack=later)
            await eventually(lambda: _count(raw, 2))
            host.signal(signal.SIGKILL)
            assert await caller.call("tally", id, "value") == 2

            await raw.send(id, "add", Request_Id=f"{incarnation}.{number}", Request_Ack=number)
            await eventually(lambda: _count(raw, 3))
            value = await caller.call("tally", id, "value")
        finally:
            host.close()

    assert (raw.replies[2].headers or {})[envelope.ERROR_CODE] == "409"
    assert value == 2


@pytest.mark.timeout(90)
async def test_a_second_host_waits_until_the_first_has_drained(servers: Servers, database: str, tmp_path: Path) -> None:
    id = secrets.token_hex(6)
    async with client(servers) as (caller, _), two_hosts(servers, database, tmp_path, caller, id) as hosts:
        answers = []

        async def load() -> None:
            while hosts[0].running() or len(answers) < 2000:
                answers.append(await caller.call("tally", id, "add"))

        work = asyncio.gather(*(load() for _ in range(32)))
        await asyncio.to_thread(hosts[0].close)
        await work

    assert sorted(answers) == list(range(2, len(answers) + 2))


@pytest.mark.timeout(90)
async def test_a_turn_that_runs_when_its_host_is_told_to_stop_is_finished_and_answered(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    id = secrets.token_hex(6)
    async with client(servers) as (caller, connection):
        host = HostProcess(servers, database, tmp_path)
        assert await caller.call("tally", id, "value") == 0
        raw = Raw(connection, servers)
        await raw.listen()

        await raw.send(id, "add_slowly")
        await raw.send(id, "add")
        await asyncio.to_thread(host.close)
        await eventually(lambda: _count(raw, 2))

    assert [reply.data for reply in raw.replies] == [b"1", b"2"]


async def _count(raw: Raw, count: int) -> bool:
    return len(raw.replies) >= count


async def _wait_until_served_again(servers: Servers, host: HostProcess) -> None:
    """Wait until a host has woken up and found that its lease lapsed."""
    await eventually(lambda: _said(host, "has lapsed"))


async def _said(host: HostProcess, words: str) -> bool:
    return words in host.log.read_text()
