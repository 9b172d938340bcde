"""`aidevos dev`: it serves a user's code, and each change of it, on a fleet that it starts."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.support.gateway_world import eventually
from tests.support.http import http_client
from tests.support.local_fleet import LocalFleet

pytestmark = pytest.mark.timeout(300)
# An idle machine needs half a second. Tests share two processors with others.
SERVED_WITHIN = 60.0
Call = Callable[..., Awaitable[httpx2.Response]]
CODE = """
import msgspec
from aidevos import BaseDurableObject, TaskContext, command, permission, query, task

class TillState(msgspec.Struct):
    total: int = 0

class Till(BaseDurableObject[TillState], type="till"):
    @command(allow=permission("till:write"))
    async def pay(self, amount: int = 1) -> int:
        if amount < 0:
            raise RuntimeError("what a strange amount")
        self.state.total += amount
        return self.state.total

    @query(allow=permission("till:read"))
    async def total(self) -> int:
        return self.state.total

    @query(allow=permission("till:read"))
    async def edition(self) -> int:
        return 1

@task("receipt")
async def receipt(context: TaskContext, payload: dict[str, str]) -> dict[str, str]:
    return payload
"""


class Dev:
    """The command, run in a folder with a `till.py`."""

    def __init__(self, fleet: LocalFleet, folder: Path) -> None:
        self.code, self._out, self._err = folder / "till.py", folder / "out", folder / "err"
        self.code.write_text(CODE)
        with self._out.open("w") as out, self._err.open("w") as err:
            line = [sys.executable, "-P", "-m", "aidevos.cli.main", "dev", "till.py"]
            self.process = subprocess.Popen(line, cwd=folder, env=fleet.environment, stdout=out, stderr=err)

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def until(self, text: str, seconds: float = SERVED_WITHIN, begin: int = 0) -> str:
        """Return the output from a place on, once it has this text."""
        end = time.monotonic() + seconds
        while text not in self.output[begin:]:
            assert time.monotonic() < end, f"{text!r} is missing:\n{self.output[begin:]}\n{self.errors[-3000:]}"
            assert self.process.poll() is None, self.errors
            time.sleep(0.02)
        return self.output[begin:]

    def change(self, text: str, expected: str) -> str:
        """Replace the code, and return what is said about it."""
        begin = len(self.output)
        self.code.write_text(text)
        return self.until(expected, begin=begin)


@pytest.fixture(scope="module")
def fleet() -> Iterator[LocalFleet]:
    """Return a fleet that isn't up, and end it after the tests."""
    fleet = LocalFleet()
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.fixture(scope="module")
def dev(fleet: LocalFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    running = Dev(fleet, tmp_path_factory.mktemp("dev"))
    try:
        running.until("Ctrl-C stops", seconds=120)
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture
async def http(fleet: LocalFleet, dev: Dev) -> AsyncIterator[Call]:
    """Yield a function that calls a method of an object with the token that the command has printed."""
    found = re.search(r"TOKEN=(\S+)", dev.output)
    assert found is not None
    headers = {"Authorization": f"Bearer {found[1]}"}
    async with http_client(base_url=fleet.read()["gateway_url"], headers=headers, timeout=30) as client:

        async def call(id: str, method: str, /, **args: object) -> httpx2.Response:
            body = {"method": method, "args": args}
            key = {"Idempotency-Key": str(uuid4())}
            return await client.post(f"/durable-objects/till:{id}/request", json=body, headers=key)

        yield call


def test_it_starts_the_fleet_and_says_what_is_served_and_how_to_call_it(fleet: LocalFleet, dev: Dev) -> None:
    url = fleet.read()["gateway_url"]

    assert fleet.is_up()
    assert f"till.py is served at {url}\n" in dev.output
    assert re.search(r"^    pay\(amount: int = 1\) -> int +command +till:write$", dev.output, re.MULTILINE)
    assert "  task receipt(dict[str, str])\n" in dev.output
    command = re.search(r"^  (TOKEN=.*?)\n\n", dev.output, re.MULTILINE | re.DOTALL)
    assert command is not None
    called = subprocess.run(["bash", "-c", command[1]], capture_output=True, text=True, check=True)
    assert called.stdout == '{"result":1}'
    assert "\n  aidevos objects call till:demo pay\n" in dev.output


async def test_a_change_is_served_soon_and_no_request_is_lost_meanwhile(dev: Dev, http: Call) -> None:
    paid, stop = {f"t{number}": 0 for number in range(6)}, asyncio.Event()

    async def pay(till: str) -> None:
        while not stop.is_set():
            answer = await http(till, "pay")
            assert answer.status_code == 200, answer.text
            paid[till] += 1
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for till in paid:
            group.create_task(pay(till))
        for edition in (2, 3):
            await asyncio.to_thread(dev.change, CODE.replace("return 1\n", f"return {edition}\n"), "is served anew")

            async def is_new(edition: int = edition) -> bool:
                return (await http("t0", "edition")).json() == {"result": edition}

            await eventually(is_new, seconds=SERVED_WITHIN)
        stop.set()

    assert {till: (await http(till, "total")).json()["result"] for till in paid} == paid
    assert min(paid.values()) > 10


async def test_code_that_cannot_be_loaded_leaves_the_old_one_in_service(dev: Dev, http: Call) -> None:
    broken = CODE.replace("async def total(self)", "async def total(self")
    said = await asyncio.to_thread(dev.change, broken, "SyntaxError")
    assert "the code from before serves on" in said
    assert f'File "{dev.code}", line 17' in said
    assert (await http("t0", "pay")).status_code == 200

    said = await asyncio.to_thread(dev.change, CODE.replace("return 1\n", "return 4\n"), "is served anew")
    assert "pay(" not in said
    assert (await http("t0", "edition")).json() == {"result": 4}


async def test_a_changed_state_without_an_upcast_is_told(dev: Dev, http: Call) -> None:
    await http("t0", "pay")

    renamed = CODE.replace("total: int = 0", "sum: int = 0").replace("state.total", "state.sum")
    said = await asyncio.to_thread(dev.change, renamed, "has the field total")
    assert "@upcast(from_=1)" in said
    await asyncio.to_thread(dev.change, CODE, "is served anew")


async def test_what_a_method_raises_is_logged_with_its_traceback(dev: Dev, http: Call) -> None:
    answer = await http("t0", "pay", amount=-1)

    assert answer.status_code == 500
    assert answer.json()["error_id"] in dev.errors
    assert f'File "{dev.code}", line 12, in pay' in dev.errors


async def test_a_process_that_ends_by_itself_is_replaced(dev: Dev, http: Call) -> None:
    begin = len(dev.output)
    dying = CODE.replace('raise RuntimeError("what a strange amount")', "__import__('os')._exit(3)")
    await asyncio.to_thread(dev.change, dying, "is served anew")

    paying = asyncio.ensure_future(http("t1", "pay", amount=-1))
    await asyncio.to_thread(dev.until, "has ended: starting it again", begin=begin)
    paying.cancel()

    async def answers() -> bool:
        return (await http("t2", "pay")).status_code == 200

    await eventually(answers, seconds=SERVED_WITHIN)
    await asyncio.to_thread(dev.change, CODE, "is served anew")


def test_ctrl_c_stops_the_code_and_leaves_the_fleet_up(fleet: LocalFleet, dev: Dev) -> None:
    dev.process.send_signal(signal.SIGINT)

    assert dev.process.wait(timeout=60) == 0
    assert dev.output.endswith("The fleet stays up; `aidevos down` stops it.\n")
    assert fleet.is_up()
    assert [pid for pid in fleet.processes() if b"aidevos.cli.dev" in command_line(pid)] == []


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
