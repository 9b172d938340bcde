"""The `python` that tests run programs with: a forked process is like one of an interpreter of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import shims

SCRIPT = """
import os, sys, time
print(__name__, sys.argv[1:], os.environ.get("NAME"), sys.stdin.read(), os.getpid(), flush=True)
while len(sys.argv) > 2:
    time.sleep(0.01)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def test_it_gets_arguments_variables_and_input_and_ends_with_its_status(folder: Path) -> None:
    line, variables = [shims.python(), "script.py", "7"], {**os.environ, "NAME": "ada"}

    ended = subprocess.run(line, cwd=folder, env=variables, input="hello", capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (7, "")
    assert ended.stdout.startswith("__main__ ['7'] ada hello ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_signal_that_it_gets(folder: Path, number: signal.Signals) -> None:
    line = [shims.python(), "script.py", "7", "wait"]
    with subprocess.Popen(line, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        child = int(running.stdout.readline().split()[-1])
        running.send_signal(number)
        # It holds the other end until it ends.
        assert running.stdout.read() == ""

    assert running.returncode == -number
    assert child != running.pid
