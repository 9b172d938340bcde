"""A process serves its metrics at the first free port, and is listed as a target for as long as it does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvloop

from aidevos.observability.exposition import OPENMETRICS
from aidevos.observability.health import Health
from aidevos.observability.metrics import measuring
from aidevos.process.scraping import showing_metrics
from aidevos.process.targets import FOLDER, listed, remove_stale
from aidevos.settings import Settings, SettingsError
from tests.support.metrics import parse
from tests.support.servers import free_port

# Lists itself under the home, says so, and waits to be killed.
LISTED = """
import sys, pathlib
from aidevos.process.targets import listed
with listed(pathlib.Path(sys.argv[1]), "127.0.0.1:1", "objects", "1"):
    print("listed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def measures() -> Iterator[None]:
    yield
    measuring.on = True


def targets(home: Path) -> list[Any]:
    return [json.loads(path.read_bytes()) for path in sorted((home / FOLDER).glob("*"))]


def showing(settings: Settings, replica: str = "0") -> Any:
    return showing_metrics(settings, "objects", replica, "1.2.3", Health())


async def read(address: str, path: str = "/metrics", accept: str = "") -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        return await http.get(f"http://{address}{path}", headers={"accept": accept} if accept else {})


async def test_processes_take_the_next_free_ports_and_list_themselves(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, metrics_port=free_port())
    async with showing(settings), showing(settings, "1"):
        found = targets(tmp_path)
        addresses = [each[0]["targets"][0] for each in found]
        answers = [await read(address, accept=OPENMETRICS) for address in addresses]
        live = await read(addresses[0], "/health/live")

    assert [each[0]["labels"] for each in found] == [
        {"service": "objects", "replica": "0"},
        {"service": "objects", "replica": "1"},
    ]
    assert addresses[0] == f"127.0.0.1:{settings.metrics_port}"
    assert int(addresses[1].rpartition(":")[2]) > settings.metrics_port
    assert {answer.headers["content-type"] for answer in answers} == {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    }
    assert "aidevos_process_info" in {sample.name for sample in parse(answers[0].text)}
    assert live.status_code == 200
    assert targets(tmp_path) == []


async def test_a_port_that_is_taken_is_passed_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(home=tmp_path, metrics_port=taken.getsockname()[1])
        async with showing(settings):
            ((target,),) = targets(tmp_path)

    assert target["targets"] != [f"127.0.0.1:{settings.metrics_port}"]


def test_a_port_at_which_another_process_listens_first_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind, first = socket.socket.bind, free_port()

    def bind_too_late(own: socket.socket, address: tuple[str, int]) -> None:
        bind(own, address)
        if address[1] == first:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bind(other, address)
            other.listen()

    async def show() -> str:
        async with showing(Settings(home=tmp_path, metrics_port=first)):
            return str(targets(tmp_path)[0][0]["targets"][0])

    monkeypatch.setattr(socket.socket, "bind", bind_too_late)
    with socket.socket() as other:
        shown = uvloop.run(show())

    assert shown.startswith("127.0.0.1:")
    assert shown != f"127.0.0.1:{first}"


async def test_with_port_0_nothing_listens_and_nothing_is_measured(tmp_path: Path) -> None:
    async with showing(Settings(home=tmp_path, metrics_port=0)):
        assert not measuring.on
        assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 9464), ("127.0.0.1", 65_535)])
async def test_a_place_that_can_not_be_used_is_named_in_one_line(tmp_path: Path, host: str, port: int) -> None:
    settings = Settings(home=tmp_path, metrics_host=host, metrics_port=port)
    with (
        socket.create_server(("127.0.0.1", 65_535)),
        pytest.raises(SettingsError, match="AIDEVOS_METRICS_PORT") as complaint,
    ):
        await showing(settings).__aenter__()

    assert "\n" not in str(complaint.value)


async def test_a_process_on_a_home_that_it_can_not_write_serves_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).write_text("not a folder")
    settings = Settings(home=tmp_path, metrics_port=free_port())
    async with showing(settings):
        answer = await read(f"127.0.0.1:{settings.metrics_port}")

    assert answer.status_code == 200
    assert "can't be listed as a target" in caplog.text


def test_the_target_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LISTED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listed\n"
        remove_stale(tmp_path)
        living = targets(tmp_path)
        process.kill()
        process.wait()
    left = targets(tmp_path)
    with listed(tmp_path, "127.0.0.1:2", "objects", "0"):
        after_next_start = targets(tmp_path)

    assert len(living) == len(left) == 1
    assert [each[0]["targets"] for each in after_next_start] == [["127.0.0.1:2"]]
    assert list(tmp_path.iterdir()) == [tmp_path / FOLDER]
