"""The process that keeps the fleet's processes running: supervisord with faster reactions.

A process that exits is restarted within a fraction of a second, later after pauses that grow to half a
minute, and never given up. `fleet.json` is replaced whenever a process starts or ends.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import msgspec
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates
from supervisor.supervisord import Supervisor

from aidevos import Backoff
from aidevos.process.fleet import FLEET_FILE, Fleet, FleetProcess
from aidevos.security.fleet_secrets import Secrets, load_secrets
from aidevos.security.keys import write_secret
from aidevos.settings import Settings, load

from . import processes
from .endpoints import describe

# Seconds until the end of a process is noticed, at most.
POLL = 0.1
BACKOFF = Backoff(0.5, 30.0)
OPEN_FILES = 65_536


class FleetSupervisor(Supervisor):  # type: ignore[misc]
    """A supervisord that checks its processes ten times a second and publishes them."""

    def __init__(self, options: Any, settings: Settings, secrets: Secrets) -> None:
        super().__init__(options)
        poll = options.poller.poll
        options.poller.poll = lambda timeout: poll(min(timeout, POLL))
        self._settings = settings
        self._secrets = secrets
        self._published: Fleet | None = None
        self._running: set[str] = set()

    def tick(self, now: float | None = None) -> None:
        super().tick(now)
        self._end_orphans()
        for process in self._processes():
            if process.state == ProcessStates.BACKOFF:
                process.delay = min(process.delay, process.laststart + pause(process.backoff, process.config.name))
        self._publish()

    def _end_orphans(self) -> None:
        """Kill the orphaned workers of a process that was killed, which would keep the port from its successor."""
        running = {process.group.config.name for process in self._processes() if process.pid}
        for name in self._running - running:
            processes.kill(self._settings.home, name)
        self._running = running

    def _processes(self) -> list[Any]:
        return [process for group in self.process_groups.values() for process in group.processes.values()]

    def _publish(self) -> None:
        running = [
            FleetProcess(process.group.config.name, 0, process.pid) for process in self._processes() if process.pid
        ]
        fleet = describe(self._settings, self._secrets, running)
        if fleet == self._published:
            return
        try:
            write_secret(self._settings.home / FLEET_FILE, msgspec.json.format(msgspec.json.encode(fleet)) + b"\n")
            self._published = fleet
        except OSError as error:
            self.options.logger.critical(f"{FLEET_FILE} can't be written: {error}")


def pause(attempt: int, name: str) -> float:
    """Return the seconds from the start of a process that exited too early to its next start.

    The first restart is immediate; later ones wait for the pauses of `BACKOFF`.
    """
    return 0.0 if attempt <= 1 else BACKOFF.pause(attempt - 1, name)


def main(config: str) -> None:
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, limit), limit))
    settings = load()
    options = ServerOptions()
    options.realize(["--configuration", config])
    options.first, options.test = True, False
    try:
        FleetSupervisor(options, settings, load_secrets(settings.home)).main()
    except ExitNow:
        pass
    finally:
        (settings.home / FLEET_FILE).unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
