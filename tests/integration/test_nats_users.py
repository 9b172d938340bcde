"""NATS users for clients on a real server: their permissions, and their isolation from each other."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from aidevos.cli.main import main
from aidevos.process.fleet import FLEET_FILE, FleetProcess
from aidevos.process.nats_users import FOLDER, USERS
from aidevos.security.secret_files import write_secret
from aidevos.settings import Settings, load
from deploy.local import binaries, endpoints, nats_server, ports
from deploy.local.credentials import ensure_secrets
from tests.support.servers import LocalServer, free_port


class Fleet:
    """A NATS server with a fleet's configuration, and the file with its address."""

    def __init__(self, home: Path) -> None:
        self.settings: Settings = load({}, home=home, nats_port=free_port())
        self.secrets = ensure_secrets(home)
        port, log = self.settings.nats_port, home / "nats.log"
        nats_server.configure(self.settings, self.secrets)
        command = nats_server.command(binaries.nats_server(), self.settings)
        self.server = LocalServer(command, log, lambda check: ports.wait_for_port("127.0.0.1", port, check, 20.0))

    def start(self) -> None:
        self.server.start()
        assert self.server._process is not None
        processes = [FleetProcess("nats", 0, self.server._process.pid)]
        fleet = endpoints.describe(self.settings, self.secrets, processes)
        write_secret(self.settings.home / FLEET_FILE, msgspec.json.encode(fleet))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `aidevos nats-user` as the owner of the home, in a thread beside the test's event loop."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("AIDEVOS_HOME", str(self.settings.home))
            with ThreadPoolExecutor(1) as thread:
                status = thread.submit(main, ["nats-user", *arguments]).result()
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    def create(self, *arguments: str) -> dict[str, str]:
        created = self.run(*arguments)
        assert created.returncode == 0, created.stderr
        found: dict[str, str] = json.loads(created.stdout)
        return found


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("home"))
    fleet.start()
    yield fleet
    fleet.server.close()


@pytest.fixture(scope="module")
def alice(fleet: Fleet) -> dict[str, str]:
    return fleet.create("alice")


@pytest.fixture(scope="module")
def bob(fleet: Fleet) -> dict[str, str]:
    return fleet.create("bob", "--events")


class Connection:
    """A connection of one user, and the server's refusals."""

    def __init__(self, client: Client, refused: asyncio.Queue[str]) -> None:
        self.client = client
        self.refused = refused

    async def hear(self, subject: str) -> asyncio.Queue[bytes]:
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def note(message: Msg) -> None:
            heard.put_nowait(message.data)

        await self.client.subscribe(subject, cb=note)
        await self.client.flush()
        return heard


async def connected(url: str, user: str, password: str, **options: Any) -> Connection:
    """Connect as soon as the server has read its new configuration."""
    refused: asyncio.Queue[str] = asyncio.Queue()

    async def note(error: Exception) -> None:
        refused.put_nowait(str(error).lower())

    options = {"error_cb": note, "max_reconnect_attempts": 20, "reconnect_time_wait": 0.1, **options}
    client = await nats.connect(url, user=user, password=password, inbox_prefix=f"_INBOX_{user}".encode(), **options)
    while not refused.empty():
        refused.get_nowait()
    return Connection(client, refused)


async def open_as(told: dict[str, str], **options: Any) -> Connection:
    return await connected(told["nats_url"], told["nats_username"], told["nats_password"], **options)


@pytest.fixture
async def host(fleet: Fleet, alice: dict[str, str]) -> AsyncIterator[Connection]:
    """Run a host that answers every call with the payload of the call."""
    opened = await connected(alice["nats_url"], "objects", fleet.secrets.nats["objects"])

    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    await opened.client.subscribe("dop.>", cb=echo)
    await opened.client.flush()
    yield opened
    await opened.client.close()


async def test_a_user_calls_and_gets_the_answer(host: Connection, alice: dict[str, str]) -> None:
    mine = await open_as(alice)
    reply = await mine.client.request("do.counter.a.value", b"mine", timeout=5)
    assert reply.data == b"mine"
    await mine.client.close()


async def test_a_user_cannot_forge_an_answer_for_another(
    host: Connection, alice: dict[str, str], bob: dict[str, str]
) -> None:
    forger, victim = await open_as(alice), await open_as(bob)
    inbox = "_INBOX_bob.waiting"
    heard = await victim.hear(inbox)

    await forger.client.publish(inbox, b"forged")
    await forger.client.publish("do.counter.a.value", b"forged by the host's answer", reply=inbox)
    await forger.client.flush()
    assert "permissions violation" in await asyncio.wait_for(forger.refused.get(), 5)

    # The host answers in order, so its answer to the forger has arrived by now.
    await victim.client.publish("do.counter.a.value", b"true", reply=inbox)
    assert await asyncio.wait_for(heard.get(), 5) == b"true"
    assert heard.empty()
    await forger.client.close()
    await victim.client.close()


@pytest.mark.parametrize("subject", ["_INBOX_bob.>", "do.>", "dop.>", "event.>", ">"])
async def test_a_user_cannot_listen_to_anything_of_others(alice: dict[str, str], subject: str) -> None:
    mine = await open_as(alice)
    await mine.hear(subject)
    assert "permissions violation" in await asyncio.wait_for(mine.refused.get(), 5)
    await mine.client.close()


async def test_even_an_inbox_that_a_user_may_read_has_only_its_own_answers(
    host: Connection, alice: dict[str, str], bob: dict[str, str]
) -> None:
    """Clients that set no prefix all use `_INBOX`."""
    listener, other = await open_as(alice), await open_as(bob)
    heard = await listener.hear("_INBOX.>")
    answer = await other.hear("_INBOX.secret")
    await other.client.publish("do.counter.a.value", b"secret", reply="_INBOX.secret")
    assert await asyncio.wait_for(answer.get(), 5) == b"secret"
    await listener.client.publish("do.counter.a.value", b"mine", reply="_INBOX.mine")
    assert await asyncio.wait_for(heard.get(), 5) == b"mine"
    assert heard.empty()
    await listener.client.close()
    await other.client.close()


async def test_events_are_for_users_that_were_created_with_them(host: Connection, bob: dict[str, str]) -> None:
    reader = await open_as(bob)
    heard = await reader.hear("event.>")
    await host.client.publish("event.counter.a.incremented", b"1")
    assert await asyncio.wait_for(heard.get(), 5) == b"1"
    assert reader.refused.empty()
    await reader.client.close()


async def test_a_removed_user_is_disconnected_and_cannot_come_back(fleet: Fleet) -> None:
    told = fleet.create("carol")
    gone = asyncio.Event()

    async def note() -> None:
        gone.set()

    mine = await open_as(told, closed_cb=note)
    assert fleet.run("carol", "--remove").returncode == 0
    await asyncio.wait_for(gone.wait(), 10)
    with pytest.raises((nats.errors.Error, OSError)):
        await open_as(told, allow_reconnect=False, max_reconnect_attempts=1)
    await mine.client.close()


async def test_users_outlive_the_next_start(fleet: Fleet, alice: dict[str, str]) -> None:
    nats_server.configure(fleet.settings, ensure_secrets(fleet.settings.home))
    assert fleet.server._process is not None
    fleet.server._process.send_signal(signal.SIGHUP)
    mine = await open_as(alice)
    with pytest.raises(NoRespondersError):
        await mine.client.request("do.counter.a.value", b"", timeout=5)
    await mine.client.close()


def test_passwords_are_stored_as_hashes_that_only_the_owner_reads(fleet: Fleet, alice: dict[str, str]) -> None:
    for path in (fleet.settings.home / FOLDER).iterdir():
        if path.is_file():
            assert alice["nats_password"] not in path.read_text()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (fleet.settings.home / FOLDER / USERS).exists()


def test_the_command_lists_the_users_with_their_rights(
    fleet: Fleet, alice: dict[str, str], bob: dict[str, str]
) -> None:
    lines = fleet.run().stdout.splitlines()
    assert "alice" in lines
    assert "bob events" in lines


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["alice"], "there is a user"),
        (["client"], "the fleet's own"),
        (["objects"], "the fleet's own"),
        (["Alice"], "must be"),
        (["a b"], "must be"),
        (["a.b"], "must be"),
        (["nobody", "--remove"], "no user"),
    ],
)
def test_the_command_refuses_in_one_line(
    fleet: Fleet, alice: dict[str, str], arguments: list[str], reason: str
) -> None:
    refused = fleet.run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert reason in refused.stderr


def test_a_home_without_a_server_of_its_own_has_no_users(tmp_path: Path, fleet: Fleet) -> None:
    command = [sys.executable, "-P", "-m", "aidevos.cli.main", "nats-user", "dave"]
    refused = subprocess.run(command, env={**os.environ, "AIDEVOS_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "no NATS server of its own" in refused.stderr
