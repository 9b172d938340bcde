"""A client of the supervisor of a running fleet."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from xmlrpc.client import Error, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from aidevos.process.fleet import LOGS
from aidevos.settings import Settings

from . import processes
from .programs import CONFIG_FILE, socket_path, start_order

# A program that isn't ready after this many starts never will be.
MANY_STARTS = 4
POLL = 0.05


class FleetError(Exception):
    """Raised when the fleet can't carry out a command; the message is one line."""


class Program(NamedTuple):
    """A program of the fleet, as the supervisor reports it; `state` is running, starting, backoff, stopped, …"""

    name: str
    state: str
    pid: int
    started_at: int


class Supervisor:
    """The supervisor of the fleet under `home`; it may not be running."""

    def __init__(self, home: Path) -> None:
        self._home = home
        # The PIDs that each program has had.
        self._starts: dict[str, set[int]] = {}

    def is_alive(self) -> bool:
        return any(not process.group for process in processes.find(self._home))

    def launch(self, settings: Settings) -> None:
        """Start the supervisor, detached from this process and its terminal, and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
        environment |= {"AIDEVOS_HOME": str(self._home), processes.MARK: processes.new_mark(self._home)}
        command = [sys.executable, "-P", "-m", f"{__package__}.supervisor", str(self._home / CONFIG_FILE)]
        errors = self._home / LOGS / "supervisor.err"
        with errors.open("wb") as log:
            child = subprocess.Popen(  # noqa: S603
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while True:
            try:
                self._call("getState")
                return
            except FleetError:
                if child.poll() is not None:
                    raise FleetError(f"the supervisor exited at once: {last_line(errors)}") from None
            time.sleep(POLL)

    def programs(self) -> list[Program]:
        """Return the fleet's programs, in start order. Raises `FleetError` if the supervisor doesn't answer."""
        rows = self._call("getAllProcessInfo")
        found = [Program(row["group"], row["statename"].lower(), row["pid"], row["start"]) for row in rows]
        return sorted(found, key=lambda program: start_order(program.name))

    def reload(self) -> tuple[list[str], list[str]]:
        """Read the configuration anew; return the programs that it has and the fleet doesn't, and vice versa."""
        [[added, _, removed]] = self._call("reloadConfig")
        return sorted(added, key=start_order), sorted(removed, key=start_order)

    def add(self, name: str) -> None:
        """Start a program of the configuration that was read last, and return at once."""
        self._starts.pop(name, None)
        self._call("addProcessGroup", name)

    def remove(self, name: str) -> None:
        """Stop a program, return once it has ended, and forget it."""
        while (state := self._state(name)) != "stopped":
            if state in ("starting", "running", "backoff"):
                # It may just have ended by itself; then it is soon started again.
                with contextlib.suppress(FleetError):
                    self._call("stopProcess", name, False)
            time.sleep(POLL)
        self._call("removeProcessGroup", name)

    def _state(self, name: str) -> str:
        return next((program.state for program in self.programs() if program.name == name), "stopped")

    def check(self) -> None:
        """Raise `FleetError` if a program keeps exiting. Call this repeatedly while waiting."""
        for program in self.programs():
            starts = self._starts.setdefault(program.name, set())
            if program.pid:
                starts.add(program.pid)
            if len(starts) >= MANY_STARTS:
                log = self._home / LOGS / f"{program.name}.log"
                raise FleetError(f"{program.name} exits whenever it is started: {last_line(log)} (see {log})")

    def _call(self, method: str, *args: Any) -> Any:
        # A transport doesn't recover from a failed connection, so each call has its own.
        transport = SupervisorTransport(None, None, f"unix://{socket_path(self._home)}")
        try:
            return getattr(ServerProxy("http://localhost", transport=transport).supervisor, method)(*args)
        except (OSError, Error, http.client.HTTPException) as error:
            raise FleetError(f"the supervisor doesn't answer: {error}") from None
        finally:
            transport.close()


def last_line(log: Path) -> str:
    """Return the last message of a log, or the last line of its traceback, or a dash if there is none."""
    from aidevos.observability.log_files import LogFile

    with contextlib.ExitStack() as stack:
        entry = next(LogFile(log, stack).last_first(), None)
    return "-" if entry is None else str(entry.line.get("exception") or entry.line["message"]).strip().split("\n")[-1]
