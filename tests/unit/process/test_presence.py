"""A process says under its home how it is, and a reader sees whether it still turns."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aidevos.contracts.health import PartProblem
from aidevos.process import presence
from aidevos.process.presence import SILENT_AFTER, Presence, find_processes, keep_present, open_presence
from tests.support.host_processes import eventually

SINCE = "2027-01-15T08:00:00.000Z"
# Takes the place of a process of a service, until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from aidevos.process.presence import open_presence
with open_presence(Path(sys.argv[1]), "objects") as file:
    file.write(sys.argv[2].encode())
    print(flush=True)
    sys.stdin.read()
"""


def described(**known: object) -> Presence:
    return Presence(service="objects", replica=1, pid=os.getpid(), since=time.time(), **known)  # type: ignore[arg-type]


async def test_a_process_is_found_with_what_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "BEAT_EVERY", 0.01)
    long = described(types=["counter", "account"], problems=[PartProblem(part="lease", detail="gone", since=SINCE)])
    now = [long]

    async def shows() -> bool:
        return [seen.process for seen in find_processes(tmp_path)] == now

    with open_presence(tmp_path, "objects") as file:
        writing = asyncio.create_task(keep_present(file, lambda: now[0]))
        await eventually(shows)
        now[0] = described()
        await eventually(shows)
        writing.cancel()

    assert find_processes(tmp_path) == []


async def test_a_process_that_beats_answers_and_one_that_does_not_is_silent_since_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_EVERY", 0.01)
    said = described()
    with open_presence(tmp_path, "objects") as file:
        writing = asyncio.create_task(keep_present(file, lambda: said))
        await asyncio.sleep(0.05)
        writing.cancel()
        (seen,) = find_processes(tmp_path)

    assert seen.silent_since(seen.beat_at + SILENT_AFTER) is None
    assert seen.silent_since(seen.beat_at + SILENT_AFTER + 1) == seen.beat_at


def test_a_process_that_was_killed_is_not_shown(tmp_path: Path) -> None:
    text = '{"service":"objects","replica":0,"pid":1,"since":0}'
    command = [sys.executable, "-c", HOLDER, str(tmp_path), text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        living = find_processes(tmp_path)
        holder.kill()

    assert [seen.process.service for seen in living] == ["objects"]
    left = list((tmp_path / "run").iterdir())
    assert len(left) == 1
    assert find_processes(tmp_path) == []
    with open_presence(tmp_path, "objects"):
        assert not left[0].exists()


async def test_a_process_in_another_container_with_the_same_home_is_not_taken_for_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence.socket, "gethostname", lambda: "other")
    with open_presence(tmp_path, "objects") as other:
        monkeypatch.undo()
        with open_presence(tmp_path, "objects") as own:
            here = find_processes(tmp_path)
            both = len(list((tmp_path / "run").iterdir()))

    assert None not in (other, own)
    assert (here, both) == ([], 2)


def test_a_process_without_a_home_to_write_to_does_without(tmp_path: Path) -> None:
    (tmp_path / "run").touch()

    with open_presence(tmp_path, "objects") as file:
        assert file is None
