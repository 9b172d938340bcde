"""The fork server: what a forked process is, and which code it runs. The orders are those of the supervisor."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local import fork_server, forking
from deploy.local.fork_server import Order

WITHIN = 20.0
PROGRAM = """
import json, os, signal, sys
from loaded import VALUE
from aidevos.observability import request_ids

print(json.dumps({
    "value": VALUE, "id": request_ids.choose(None), "arguments": sys.argv[1:], "name": __name__,
    "variables": dict(os.environ), "directory": os.getcwd(), "group": os.getpgrp(), "parent": os.getppid(),
    "descriptors": [number for number in range(100) if os.path.exists(f"/proc/self/fd/{number}")],
}), flush=True)
signal.pause()
"""


class Forks:
    """A fork server that has loaded `loaded.py`, and the processes that it has forked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pids: list[int] = []
        self.write(1)
        (folder / "program.py").write_text(PROGRAM)
        self.server = forking.ForkServer(["aidevos.observability.request_ids", "loaded"])

    def write(self, value: int) -> None:
        (self.folder / "loaded.py").write_text(f"VALUE = {value}\n")

    def fork(self, *arguments: str, **variables: str) -> tuple[int, Any]:
        """Fork a process that runs `program.py`, and return its PID and what it has printed."""
        line = ["program", *arguments]
        reader, writer = os.pipe()
        with open(os.devnull) as nothing:
            pid = self.server.fork(Order(line, variables, "/"), [nothing.fileno(), writer, writer])
        os.close(writer)
        self._pids.append(pid)
        with open(reader) as output:
            return pid, json.loads(output.readline())

    def close(self) -> None:
        self.server.close()
        for pid in filter(None, self._pids):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forks]:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("AIDEVOS_ADMIN_PASSWORD", "secret")
    # As the supervisor does.
    forking.adopt_orphans()
    made = Forks(tmp_path)
    yield made
    made.close()


def test_a_forked_process_is_like_one_that_the_supervisor_starts(forks: Forks) -> None:
    pid, shown = forks.fork("--fd", "0", AIDEVOS_REPLICA="3")

    assert shown["arguments"] == ["--fd", "0"]
    assert (shown["name"], shown["directory"], shown["variables"]) == ("__main__", "/", {"AIDEVOS_REPLICA": "3"})
    assert (shown["group"], shown["parent"]) == (pid, os.getpid())
    assert shown["descriptors"] == [0, 1, 2]
    assert _read(pid, "environ") == ["AIDEVOS_REPLICA=3"]
    assert _read(pid, "cmdline")[1:] == ["-P", "-m", "program", "--fd", "0"]


def test_forked_processes_have_nothing_in_common_that_must_be_unique(forks: Forks) -> None:
    assert forks.fork()[1]["id"] != forks.fork()[1]["id"]


def test_a_process_runs_the_code_that_is_on_the_disk(forks: Forks) -> None:
    before = forks.fork()[1]["value"]
    forks.write(22)

    assert (before, forks.fork()[1]["value"]) == (1, 22)


def test_a_module_that_cannot_be_loaded_keeps_no_other_from_starting(forks: Forks) -> None:
    forks.server = forking.ForkServer(["missing", "loaded"])

    assert forks.fork()[1]["value"] == 1


def test_a_server_that_was_killed_is_replaced(forks: Forks) -> None:
    forks.fork()
    [server] = [pid for pid in _children() if "deploy.local.fork_server" in _read(pid, "cmdline")]
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)

    assert forks.fork()[1]["value"] == 1


def test_the_server_knows_no_secret_and_ends_with_the_supervisor(forks: Forks) -> None:
    forks.fork()
    [server] = [pid for pid in _children() if "deploy.local.fork_server" in _read(pid, "cmdline")]

    assert not any("AIDEVOS_ADMIN" in variable for variable in _read(server, "environ"))
    forks.server.close()
    _eventually(lambda: os.waitpid(server, os.WNOHANG) != (0, 0))


def test_the_types_of_services_are_derived_before_a_process_is_forked(forks: Forks) -> None:
    (forks.folder / "shop.py").write_text(
        "from msgspec import Struct\nfrom aidevos import BaseDurableObject, Service\n\n"
        "class CartState(Struct):\n    items: int = 0\n\n"
        'class Cart(BaseDurableObject[CartState], type="cart"):\n    pass\n\n'
        'service = Service("objects", types=[Cart])\n'
    )
    (forks.folder / "program.py").write_text(
        "import json, signal\nfrom aidevos.durable.objects import registry\n"
        "print(json.dumps(registry._object_type.cache_info().currsize), flush=True)\nsignal.pause()\n"
    )
    forks.server = forking.ForkServer(["shop"])

    assert forks.fork()[1] == 1


def test_objects_of_a_process_find_no_room_between_those_of_the_server() -> None:
    scattered = [bytes(40) for _ in range(100_000)]
    del scattered[::2]
    before = _free_blocks()

    filling = [*fork_server._fill_free_blocks()]

    assert before > 20_000 < len(filling)
    assert _free_blocks() < before / 10


def test_an_order_that_finds_no_room_forks_nothing(forks: Forks) -> None:
    assert forks.server.fork(Order(["program"], {"LARGE": "x" * forking.VARIABLES_ROOM}, "/"), [0, 1, 2]) == 0


def _free_blocks() -> int:
    """Return the free blocks of the size in which a text of 40 bytes is kept."""
    return {int(size): int(free) for size, free in fork_server._CLASS.findall(fork_server._read_statistics())}[80]


def _read(pid: int, name: str) -> list[str]:
    return list(filter(None, Path(f"/proc/{pid}/{name}").read_text().split("\0")))


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
