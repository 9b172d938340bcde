"""The process that keeps the fleet's processes running: supervisord with faster reactions.

A process that exits is restarted within a fraction of a second, later after pauses that grow to half a
minute, and never given up. `fleet.json` is replaced whenever a process starts or ends.

The supervisor listens on the gateway's port for as long as the fleet is up. All gateways accept from its socket, so no
connection is refused while they are replaced, or when one is killed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from supervisor import events
from supervisor.datatypes import SocketConfig
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions, signame
from supervisor.states import ProcessStates
from supervisor.supervisord import Supervisor

from aidevos.durable.base.backoff import Backoff
from aidevos.process import deaths
from aidevos.process.fleet import FLEET_FILE, Fleet, FleetProcess
from aidevos.process.targets import remove_stale
from aidevos.security.fleet_secrets import load_secrets
from aidevos.security.secret_files import write_secret
from aidevos.settings import load

from . import environment, forking, processes
from .endpoints import describe
from .ports import check_free
from .programs import PRELOADED, SERVICE_NAMES, SERVICES, replica, start_order

# Seconds until the end of a process is noticed, at most.
POLL = 0.1
CLEAN_EVERY = 1.0
# The services that host objects.
HOSTS, HOST_SERVICES = "hosts", frozenset(service.name for service in SERVICES if service.stores)
BACKOFF = Backoff(0.5, 30.0)
OPEN_FILES = 65_536
# Connections that may wait until a gateway accepts them.
BACKLOG = 2048


class SharedSocket(SocketConfig):  # type: ignore[misc]
    """A socket that listens already, for any number of programs."""

    def __init__(self, url: str, listener: socket.socket) -> None:
        self.url = url
        self.backlog = BACKLOG
        self._listener = listener

    def create_and_bind(self) -> socket.socket:
        """Return a duplicate, which a program's group may close."""
        return self._listener.dup()


class FleetOptions(ServerOptions):  # type: ignore[misc]
    """The supervisor's options, with the fleet's settings and secrets as they are when the configuration is read."""

    def __init__(self, home: Path, listener: socket.socket) -> None:
        super().__init__()
        self._home = home
        self._listener = listener
        self.settings = load()
        # The status of each process that has just ended, by its PID.
        self.ended: dict[int, int] = {}
        self.secrets = load_secrets(home)
        self.fork_server = forking.ForkServer(PRELOADED)
        self.spawning: Any = None

    def process_config(self, do_usage: bool = True) -> None:
        environment.adopt(self._home)
        self.settings = load()
        self.secrets = load_secrets(self._home)
        super().process_config(do_usage)

    def processes_from_section(self, parser: Any, section: str, group_name: str, klass: type) -> Any:
        klass = forking.CONFIGS[klass] if replica(group_name).service in SERVICE_NAMES else klass
        return super().processes_from_section(parser, section, group_name, klass)

    def fork(self) -> int:
        """Return the PID of a new process of `spawning`, or 0 in a copy of this process that has to become it."""
        spawning, self.spawning = self.spawning, None
        forked = 0 if spawning is None else self.fork_server.fork(*spawning.order())
        return forked or int(super().fork())

    def make_logger(self) -> None:
        # A fleet may well be root's.
        self.parse_criticals: list[str] = []
        super().make_logger()

    def openhttpservers(self, supervisord: Supervisor) -> None:
        """Listen to commands without an alarm: the socket needs no password, because only its owner may open it."""
        critical, self.logger.critical = self.logger.critical, self.logger.debug
        try:
            super().openhttpservers(supervisord)
        finally:
            self.logger.critical = critical

    def waitpid(self) -> tuple[int | None, int | None]:
        """Note how the process ended, which the supervisor's events don't say."""
        pid, status = super().waitpid()
        if pid:
            self.ended[pid] = status
        return pid, status

    def parse_fcgi_socket(self, sock: str, *_: Any) -> SharedSocket:
        return SharedSocket(sock, self._listener)


class FleetSupervisor(Supervisor):  # type: ignore[misc]
    """A supervisord that checks its processes ten times a second and publishes them."""

    def __init__(self, options: FleetOptions) -> None:
        super().__init__(options)
        poll = options.poller.poll
        options.poller.poll = lambda timeout: poll(min(timeout, POLL))
        self._published: Fleet | None = None
        self._running: set[str] = set()
        self._cleaned_at = 0.0
        # The last process of each program, and how often it was started again.
        self._last: dict[str, int] = {}
        self._restarts: dict[str, int] = {}

    def runforever(self) -> None:
        events.subscribe(events.ProcessStateStartingEvent, self._expect_deaths)
        events.subscribe(events.ProcessStateExitedEvent, self._record_death)
        events.subscribe(events.ProcessStateBackoffEvent, self._record_death)
        super().runforever()

    def tick(self, now: float | None = None) -> None:
        super().tick(now)
        self.options.ended.clear()
        self._end_orphans()
        for process in self._processes():
            if process.state == ProcessStates.BACKOFF:
                process.delay = min(process.delay, process.laststart + pause(process.backoff, process.config.name))
        self._publish()
        self._remove_stale_targets()

    def ordered_stop_groups_phase_1(self) -> None:
        """Stop the last services at once: the gateways, then the workers, then all that host objects, then the servers.

        One that was stopped by SIGSTOP goes on, so that it can end.
        """
        for group in self.stop_groups:
            if _wave(group) == _wave(self.stop_groups[-1]):
                group.stop_all()
                for process in group.get_unstopped_processes():
                    if process.pid:
                        process.signal(signal.SIGCONT)

    def _end_orphans(self) -> None:
        """Kill the orphaned workers of a process that was killed, which would serve on unsupervised."""
        running = {process.group.config.name for process in self._processes() if process.pid}
        for name in self._running - running:
            processes.kill(self.options.settings.home, name)
        self._running = running

    def _remove_stale_targets(self) -> None:
        """Remove the targets of Prometheus of processes that were killed."""
        if time.monotonic() - self._cleaned_at > CLEAN_EVERY:
            self._cleaned_at = time.monotonic()
            remove_stale(self.options.settings.home)

    def _expect_deaths(self, event: events.ProcessStateEvent) -> None:
        each = replica(event.process.group.config.name)
        with contextlib.suppress(OSError):
            deaths.expect(self.options.settings.home, each.service, each.number)

    def _record_death(self, event: events.ProcessStateEvent) -> None:
        """Count and log the end of a process that nobody stopped, and let it be reported."""
        process = event.process
        status = self.options.ended.get(process.pid)
        if status is None:
            # It could not be started.
            return
        each, code = replica(process.group.config.name), os.waitstatus_to_exitcode(status)
        try:
            death = deaths.record(
                self.options.settings.home,
                each.service,
                each.number,
                signal=signame(-code) if code < 0 else "",
                status=code if code >= 0 else None,
                seconds=time.time() - process.laststart,
            )
            self.options.logger.critical(f"{death}: starting it again")
        except OSError as error:
            self.options.logger.critical(f"{each.program} died, and that can't be recorded: {error}")

    def _processes(self) -> list[Any]:
        return [process for group in self.process_groups.values() for process in group.processes.values()]

    def _count_restarts(self, pids: dict[str, int]) -> None:
        programs = {process.group.config.name for process in self._processes()}
        self._restarts = {name: self._restarts.get(name, 0) for name in programs}
        self._last = {name: pid for name, pid in self._last.items() if name in programs}
        for name, pid in pids.items():
            self._restarts[name] += self._last.get(name, pid) != pid
            self._last[name] = pid

    def _publish(self) -> None:
        settings = self.options.settings
        pids = {process.group.config.name: process.pid for process in self._processes() if process.pid}
        self._count_restarts(pids)
        running = [
            FleetProcess(*replica(name), pids[name], self._restarts[name]) for name in sorted(pids, key=start_order)
        ]
        fleet = describe(settings, self.options.secrets, running)
        if fleet == self._published:
            return
        try:
            write_secret(settings.home / FLEET_FILE, msgspec.json.format(msgspec.json.encode(fleet)) + b"\n")
            self._published = fleet
        except OSError as error:
            self.options.logger.critical(f"{FLEET_FILE} can't be written: {error}")


def _wave(group: Any) -> str:
    """Return the name that programs share which are stopped together."""
    service = replica(group.config.name).service
    return HOSTS if service in HOST_SERVICES else service


def pause(attempt: int, name: str) -> float:
    """Return the seconds from the start of a process that exited too early to its next start.

    The first restart is immediate; later ones wait for the pauses of `BACKOFF`.
    """
    return 0.0 if attempt <= 1 else BACKOFF.pause(attempt - 1, name)


def main(config: str) -> None:
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, limit), limit))
    home = load().home
    environment.adopt(home)
    settings = load()
    with check_free(settings.host, settings.port, "AIDEVOS_PORT") as listener:
        options = FleetOptions(home, listener)
        options.realize(["--configuration", config])
        options.first, options.test = True, False
        forking.adopt_orphans()
        options.fork_server.start()
        try:
            FleetSupervisor(options).main()
        except ExitNow:
            pass
        finally:
            (home / FLEET_FILE).unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
