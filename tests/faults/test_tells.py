"""Tells whose host dies: one that kills its host becomes a dead letter, and all others are applied."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from aidevos.contracts import dead_letters, subjects
from aidevos.contracts.dead_letters import Letter
from aidevos.durable.client.connection import connect
from aidevos.durable.delivery.crash_suspects import CRASHES
from tests.support.host_processes import HostProcess, client, eventually
from tests.support.servers import Servers

OBJECTS = 20


@pytest.mark.timeout(180)
async def test_a_tell_that_kills_its_host_becomes_a_dead_letter_and_all_others_are_applied_once(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    ids = [secrets.token_hex(6) for _ in range(OBJECTS)]
    letters: asyncio.Queue[Letter] = asyncio.Queue()
    told = 0
    keeper = await connect(servers.nats_url("events"), "keeper")
    headers = {"Authorization": "Bearer " + servers.issuer().issue("eve", roles=("admin",))}

    async def keep(message: Msg) -> None:
        letters.put_nowait(msgspec.msgpack.decode(message.data, type=dict[str, Letter])["letter"])
        await message.respond(b"null")

    await keeper.subscribe(f"dop.*.{dead_letters.TYPE}.*.bury", cb=keep)
    host = HostProcess(servers, database, tmp_path)
    try:
        async with client(servers) as (caller, _):
            stream = keeper.jetstream()
            await caller.call("tally", ids[0], "add", by=0)
            pids = {host.pid()}
            while letters.empty():
                # At each death, some of these are under way and some are stored after it.
                for id in ids:
                    await stream.publish(subjects.tell("tally", id, "add"), b"{}", headers=headers)
                if not told:
                    await stream.publish(subjects.tell("tally", ids[0], "end_process"), b"{}", headers=headers)
                told += 1
                pids.add(host.pid())
                await asyncio.sleep(0.2)

            async def none_left() -> bool:
                left = await stream.stream_info(subjects.TELLS_STREAM, subjects_filter=subjects.stored_tells("tally"))
                return not left.state.subjects

            await eventually(none_left, 60)
            counts = [await caller.call("tally", id, "value") for id in ids]
    finally:
        host.close()
        await keeper.close()

    letter = letters.get_nowait()
    assert letters.empty()
    assert (letter.subject, letter.code, letter.source) == (f"do.tally.{ids[0]}.end_process", "internal", "eve")
    assert counts == [told] * OBJECTS
    # The first death made it a crash suspect.
    assert len(pids) <= CRASHES + 2
