"""Hosts that die by SIGKILL under load: nothing acknowledged is lost, nothing is applied twice."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from pathlib import Path

import pytest

from tests.support import host_process
from tests.support.host_processes import HostProcess, client
from tests.support.kits import repeats
from tests.support.servers import Servers

CRASHES = repeats(20)
CALLERS = 16


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", [host_process.BEFORE_COMMIT, host_process.AFTER_COMMIT])
@pytest.mark.parametrize("objects", [1, 100])
async def test_every_request_is_applied_once_and_answered_the_same(
    servers: Servers, database: str, tmp_path: Path, point: str, objects: int
) -> None:
    ids = [secrets.token_hex(6) for _ in range(objects)]
    answers: dict[tuple[str, str], int] = {}
    host = HostProcess(servers, database, tmp_path)
    try:
        async with client(servers) as (caller, _):
            host_process.arm(host.crash_file, point, CRASHES)
            host.signal(host_process.signal.SIGKILL)

            async def load(worker: int) -> None:
                number = 0
                while host_process.lives_left(host.crash_file) or number < 20:
                    number += 1
                    id, key = ids[(worker + number) % objects], f"{worker}-{number}"
                    answers[id, key] = await caller.object("tally", id, request_id=key).add()

            await asyncio.gather(*(load(worker) for worker in range(CALLERS)))
            repeated = [await caller.object("tally", id, request_id=key).add() for id, key in list(answers)[:300]]
            values = {id: await caller.call("tally", id, "value") for id in ids}
    finally:
        host.close()

    assert repeated == list(answers.values())[:300]
    applied = Counter(id for id, _ in answers)
    assert values == {id: applied[id] for id in ids}
    for id in ids:
        given = sorted(value for (of, _), value in answers.items() if of == id)
        assert given == list(range(1, values[id] + 1))


@pytest.mark.timeout(240)
async def test_numbered_requests_survive_crashes_without_a_record_too_many(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    id = secrets.token_hex(6)
    host = HostProcess(servers, database, tmp_path)
    try:
        async with client(servers) as (caller, _):
            host_process.arm(host.crash_file, host_process.AFTER_COMMIT, 5)
            host.signal(host_process.signal.SIGKILL)
            answers: list[int] = []

            async def load() -> None:
                while host_process.lives_left(host.crash_file) or len(answers) < 5000:
                    answers.append(await caller.call("tally", id, "add"))

            await asyncio.gather(*(load() for _ in range(128)))
            value = await caller.call("tally", id, "value")
    finally:
        host.close()

    assert sorted(answers) == list(range(1, value + 1))
