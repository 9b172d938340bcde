"""`make ps` ends quietly when its reader does, as in `make ps | head`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PS = """
import sys
from aidevos.process.overview import Overview, Row
from deploy.local import __main__
Overview.read = lambda self: [Row(name="objects", state="running", pid=1)] * {rows}
sys.argv = ["deploy.local", "ps"]
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
@pytest.mark.parametrize("rows", [1, 1000])
def test_a_list_of_processes_whose_reader_is_gone_ends_quietly(tmp_path: Path, rows: int) -> None:
    ended = run(PS.format(rows=rows), tmp_path, read=False)

    assert (ended.returncode, ended.stderr) == (0, "")
