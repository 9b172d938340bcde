"""A local fleet with its own home and ports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from aidevos.settings import load
from deploy.local import launcher
from tests.support import shims
from tests.support.paths import temporary_folder
from tests.support.servers import free_port


class LocalFleet:
    """A fleet with its own home and ports, driven as `make` drives it."""

    def __init__(self, **variables: str) -> None:
        self.home = temporary_folder("fleet")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIDEVOS_")}
        ports = {f"AIDEVOS_{name}PORT": str(free_port()) for name in ("", "NATS_", "MONGO_")}
        self.warnings = ""
        self.environment = {**inherited, "AIDEVOS_HOME": str(self.home), **ports, **variables}

    def start(self, command: str, *options: str) -> subprocess.Popen[str]:
        line = [shims.python(), "-m", "deploy.local", command, *options]
        return subprocess.Popen(line, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, command: str, *options: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        with self.start(command, *options) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def logs(self, *options: str) -> list[dict[str, Any]]:
        """Return the lines that `aidevos logs` shows."""
        shown = self.aidevos("logs", "--json", *options)
        shown.check_returncode()
        return [json.loads(text) for text in shown.stdout.splitlines()]

    def aidevos(self, *arguments: str, seconds: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `aidevos` with these arguments and further variables."""
        line = [shims.python(), "-m", "aidevos.cli.main", *arguments]
        environment = {**self.environment, **variables}
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=seconds)

    def is_up(self) -> bool:
        """True if the last `up` was followed by no `down`, and the supervisor lives."""
        return (self.home / "fleet.json").exists() and self.supervisor() in self.processes()

    def recover(self) -> str:
        """Do in this process what `make up` does for a fleet that is up: wait until it is ready."""
        return launcher.up(load(self.environment))

    def up(self) -> LocalFleet:
        started = self.run("up")
        assert started.returncode == 0, started.stderr
        self.warnings = started.stderr
        return self

    def read(self) -> Any:
        return json.loads((self.home / "fleet.json").read_bytes())

    def pids(self) -> dict[str, int]:
        return {process["name"]: process["pid"] for process in self.read()["processes"]}

    def replicas(self) -> dict[tuple[str, int], int]:
        """Return the PID of each process, by its name and replica."""
        return {(process["name"], process["replica"]): process["pid"] for process in self.read()["processes"]}

    def processes(self) -> list[int]:
        """Return the PIDs of all processes that were started with this home."""
        setting = f"AIDEVOS_HOME={self.home}".encode()
        return [pid for pid in all_pids() if setting in environment(pid)]

    def supervisor(self) -> int:
        return int((self.home / "supervisor.pid").read_text())

    def close(self) -> None:
        """Kill all processes. How a fleet ends in an orderly way has tests of its own."""
        end = time.monotonic() + 10
        # A supervisor that still lives may start a program again.
        while pids := self.processes():
            assert time.monotonic() < end, f"these processes can't be killed: {pids}"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        shutil.rmtree(self.home, ignore_errors=True)


def all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
