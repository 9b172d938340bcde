"""`aidevos dev` serves a user's code, and each change of it, on a fleet that it starts; also that of `aidevos new`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from selenium.webdriver.common.by import By

from tests.support import shims
from tests.support.browser import Browsers, Page
from tests.support.gateway_world import eventually
from tests.support.http import http_client
from tests.support.local_fleet import LocalFleet
from tests.support.people import PASSWORD, register

pytestmark = pytest.mark.timeout(300)
# An idle machine needs half a second. Tests share two processors with others.
SERVED_WITHIN = 60.0
# Nobody listens there before the page is served, and nobody else finds it free.
PLACE = socket.socket()
PLACE.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
PLACE.bind(("127.0.0.1", 0))
PAGE_PORT = PLACE.getsockname()[1]
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


def aidevos(*words: str) -> list[str]:
    return [shims.python(), "-P", "-m", "aidevos.cli.main", *words]


class Dev:
    """The command, run in a folder."""

    def __init__(self, fleet: LocalFleet, folder: Path, *words: str) -> None:
        self.code, self._out, self._err = folder / "till.py", folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            line = aidevos("dev", *words)
            self.process = subprocess.Popen(line, cwd=folder, env=fleet.environment, stdout=out, stderr=err)

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def token(self) -> str:
        found = re.search(r"TOKEN=(\S+)", self.output)
        assert found is not None
        return found[1]

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


@contextmanager
def serving(dev: Dev) -> Iterator[Dev]:
    """Yield the command once it serves, and end it."""
    try:
        dev.until("Ctrl-C stops", seconds=180)
        yield dev
    finally:
        dev.process.kill()
        dev.process.wait()


@pytest.fixture(scope="module")
def fleet() -> Iterator[LocalFleet]:
    """Return a fleet that isn't up, and end it after the tests."""
    fleet = LocalFleet(AIDEVOS_CORS_ORIGINS=f"http://127.0.0.1:{PAGE_PORT}")
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.fixture(scope="module")
def dev(fleet: LocalFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("dev")
    (folder / "till.py").write_text(CODE)
    with serving(Dev(fleet, folder, "till.py")) as running:
        yield running


@pytest.fixture
async def http(fleet: LocalFleet, dev: Dev) -> AsyncIterator[Call]:
    """Yield a function that calls a method of an object with the token that the command has printed."""
    headers = {"Authorization": f"Bearer {dev.token}"}
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
    paid, stop = {f"busy{number}": 0 for number in range(6)}, asyncio.Event()

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
            await wait_for_edition(http, edition)
        stop.set()

    assert {till: (await http(till, "total")).json()["result"] for till in paid} == paid
    assert min(paid.values()) > 10


async def wait_for_edition(http: Call, edition: int) -> None:
    """Return once the new code answers. A busy machine hands over some objects after the change is shown."""

    async def is_new() -> bool:
        return (await http("t0", "edition")).json() == {"result": edition}

    await eventually(is_new, seconds=SERVED_WITHIN)


async def test_code_that_cannot_be_loaded_leaves_the_old_one_in_service(dev: Dev, http: Call) -> None:
    broken = CODE.replace("async def total(self)", "async def total(self")
    said = await asyncio.to_thread(dev.change, broken, "SyntaxError")
    assert "the code from before serves on" in said
    assert f'File "{dev.code}", line 17' in said
    assert (await http("t0", "pay")).status_code == 200

    said = await asyncio.to_thread(dev.change, CODE.replace("return 1\n", "return 4\n"), "is served anew")
    assert "pay(" not in said
    await wait_for_edition(http, 4)


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
    await asyncio.to_thread(dev.until, "is served again", begin=begin)

    async def answers() -> bool:
        return (await http("t2", "pay")).status_code == 200

    await eventually(answers, seconds=SERVED_WITHIN)
    await asyncio.to_thread(dev.change, CODE, "is served anew")


def test_ctrl_c_stops_the_code_and_leaves_the_fleet_up(fleet: LocalFleet, tmp_path: Path) -> None:
    (tmp_path / "till.py").write_text(CODE.replace('type="till"', 'type="drawer"'))
    with serving(Dev(fleet, tmp_path, "till.py")) as dev:
        assert serving_in(tmp_path, fleet)
        dev.process.send_signal(signal.SIGINT)

        assert dev.process.wait(timeout=60) == 0
        assert dev.output.endswith("The fleet stays up; `aidevos down` stops it.\n")
        assert fleet.is_up()
        assert serving_in(tmp_path, fleet) == []


@pytest.fixture(scope="module")
def project(fleet: LocalFleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a new project, with a further object and task."""
    folder = tmp_path_factory.mktemp("new") / "grocery"
    subprocess.run(aidevos("new", "project", "grocery"), cwd=folder.parent, check=True)
    for words in (("object", "ShoppingCart"), ("task", "report")):
        subprocess.run(aidevos("new", *words), cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("check", ["mypy", "ruff check", "ruff format --check", "pytest --quiet"])
def test_a_new_project_passes_its_own_checks(project: Path, check: str) -> None:
    without = ("schemathesis", "hypothesispytest", "xdist", "random_order")
    options = {"PYTEST_ADDOPTS": " ".join(f"-p no:{name}" for name in without), "PATH": os.environ["PATH"]}
    line = [sys.executable, "-m", *check.split()]
    ran = subprocess.run(line, cwd=project, env=options, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr


async def test_the_page_of_a_new_project_shows_live_data(fleet: LocalFleet, project: Path, browsers: Browsers) -> None:
    with serving(Dev(fleet, project, "grocery", "--page-port", str(PAGE_PORT))) as dev:
        assert f"The page is at http://127.0.0.1:{PAGE_PORT}\n" in dev.output
        assert "doesn't let it call" not in dev.output
        name = await make_user(fleet, dev, "board")
        browser = browsers.open()
        try:
            page = Page(browser, f"http://127.0.0.1:{PAGE_PORT}/")
            await asyncio.to_thread(read_and_write, page, name, fleet)
            # Another origin, which the fleet doesn't allow.
            page = Page(browser, f"http://localhost:{PAGE_PORT}/")
            await asyncio.to_thread(page.until, lambda: "AIDEVOS_CORS_ORIGINS" in page.at("problem").text)
            assert not page.at("login").is_displayed()
        finally:
            browser.quit()


def read_and_write(page: Page, name: str, fleet: LocalFleet) -> None:
    page.until(lambda: page.at("login").is_displayed())
    for field, text in (("username", name), ("password", PASSWORD)):
        page.browser.find_element(By.NAME, field).send_keys(text)
    page.at("login").submit()
    page.until(lambda: page.at("board").is_displayed(), SERVED_WITHIN)
    assert not page.at("login").is_displayed()
    page.browser.find_element(By.NAME, "text").send_keys("from the page")
    page.at("add").submit()
    page.until(lambda: page.at("notes").text == "from the page", SERVED_WITHIN)
    line = aidevos("objects", "call", "board:lobby", "add", "text=from elsewhere")
    subprocess.run(line, env=fleet.environment, check=True)
    page.until(lambda: page.at("notes").text == "from the page\nfrom elsewhere", SERVED_WITHIN)
    assert page.at("problem").text == ""


async def make_user(fleet: LocalFleet, dev: Dev, type: str) -> str:
    """Register a user who may call objects of a type, and return the name."""
    headers = {"Authorization": f"Bearer {dev.token}"}
    async with http_client(base_url=fleet.read()["gateway_url"], timeout=30) as http:
        user = await register(http)
        role = {"name": "users", "permissions": ["objects:request", f"{type}:read", f"{type}:write"]}
        (await http.post("/roles", json=role, headers=headers)).raise_for_status()
        roles = {"roles": ["user", "users"]}
        (await http.put(f"/users/{user.id}", json=roles, headers=headers)).raise_for_status()
    return user.name


def serving_in(folder: Path, fleet: LocalFleet) -> list[int]:
    """Return the processes that serve the code in a folder."""
    ours = (pid for pid in fleet.processes() if b"aidevos.cli.dev" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return [pid for pid in ours if Path(f"/proc/{pid}/cwd").resolve() == folder.resolve()]
