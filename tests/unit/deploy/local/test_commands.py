"""`make ps` and `make logs` end quietly when their reader does, as in `make ps | head`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PS = """
import sys
from deploy.local import __main__, launcher
from deploy.local.control import Program
launcher.ps = lambda settings: [Program("objects", "running", 1, 0)] * {rows}
sys.argv = ["deploy.local", "ps"]
sys.exit(__main__.main())
"""
LOGS = """
import sys
from deploy.local import __main__
sys.argv = ["deploy.local", "logs"]
sys.exit(__main__.main())
"""


def run(code: str, home: Path, *, read: bool) -> subprocess.CompletedProcess[str]:
    """Run a command whose reader has gone, or one that is read to the end."""
    environment = {**os.environ, "AIDEVOS_HOME": str(home), "PYTHONUNBUFFERED": ""}
    reader, writer = os.pipe()
    if not read:
        os.close(reader)
    command = [sys.executable, "-c", code]
    output = subprocess.PIPE if read else writer
    ended = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    return ended


# A few lines are written at the very end, many of them before.
@pytest.mark.parametrize("rows", [1, 10_000])
def test_a_list_of_processes_whose_reader_is_gone_ends_quietly(tmp_path: Path, rows: int) -> None:
    ended = run(PS.format(rows=rows), tmp_path, read=False)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_logs_whose_reader_is_gone_end_quietly(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("nats", "objects"):
        (tmp_path / "logs" / f"{name}.log").write_text("line\n" * 100_000)

    ended = run(LOGS, tmp_path, read=False)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_logs_show_the_end_of_every_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("nats", "objects"):
        (tmp_path / "logs" / f"{name}.log").write_text("".join(f"{name} {number}\n" for number in range(100)))

    ended = run(LOGS, tmp_path, read=True)

    assert ended.returncode == 0
    assert {"nats 60", "nats 99", "objects 60", "objects 99"} <= set(ended.stdout.splitlines())
    assert "nats 59" not in ended.stdout
