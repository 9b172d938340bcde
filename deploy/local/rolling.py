"""Changes of a running fleet, process by process.

Promise: while a service is restarted, as many of its processes serve at each moment as before. A command that is
interrupted leaves every service running, and the next one puts the fleet in order: its processes are those that
`environment.json` asks for. A new version that doesn't start replaces no process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from msgspec.structs import fields

from aidevos.security.fleet_secrets import load_secrets
from aidevos.security.secret_files import write_secret
from aidevos.settings import PREFIX, Settings, SettingsError, load
from aidevos.variables import read

from . import environment
from .control import FleetError, Supervisor
from .environment import OTEL
from .joining import wait_until_joined
from .programs import CONFIG_FILE, STAND_IN, Replica, add_services, count_all, name_counts, replicas

JOIN_TIMEOUT = 60.0
# The settings of the servers, and of the socket that the supervisor keeps.
FIXED = ("host", "port", "nats_port", "mongo_port", "nats_url", "mongo_url", "mongo_database", "stream_replicas")


class RunningFleet:
    """The fleet under `home`, which is up. Raises `FleetError` if an older version has started it."""

    def __init__(self, home: Path, supervisor: Supervisor) -> None:
        self._home = home
        self._supervisor = supervisor
        self._read()

    @property
    def counts(self) -> dict[str, int]:
        """The number of processes of each service."""
        return count_all(self._settings.replicas)

    @property
    def settings(self) -> Settings:
        """The settings of processes that start from now on."""
        return self._settings

    def adopt(self, variables: dict[str, str]) -> None:
        """Let the processes that start from now on have these settings. The numbers of processes stay as they are.

        Raises `SettingsError` for a setting that can't change while the fleet is up.
        """
        variables = variables | {"AIDEVOS_REPLICAS": self._settings.replicas}
        settings = load(variables, home=self._home)
        for name in FIXED:
            if getattr(settings, name) != getattr(self._settings, name):
                raise SettingsError(
                    f"AIDEVOS_{name.upper()} has changed since the fleet was started: "
                    "set it as it was then, or run `make down` and `make up`"
                )
        environment.save(self._home, variables)
        self._read()

    def advise(self, variables: dict[str, str]) -> str:
        """Return what to do about settings that differ from those of the fleet, or "" if none does."""
        given, named = load(variables, home=self._home), read(variables, fields(Settings)).keys() - {"replicas"}
        differing = [name for name in sorted(named) if getattr(given, name) != getattr(self._settings, name)]
        running = environment.load(self._home)
        tracing = [name for name in sorted(variables) if name.startswith(OTEL) and variables[name] != running.get(name)]
        if not (differing or tracing):
            return ""
        command = "`make down` and `make up` apply" if {*differing} & {*FIXED} else "`make restart` applies"
        shown = ", ".join([*(PREFIX + name.upper() for name in differing), *tracing])
        return f"The running fleet has other values of {shown}: {command} yours."

    def mend(self) -> None:
        """Start the processes that are missing, wait until all have joined, and end those that are too many."""
        added, removed = self._configure(replicas(self.counts))
        for program in added:
            self._supervisor.add(program)
        self._wait(replicas(self.counts))
        for program in removed:
            self._supervisor.remove(program)

    def scale(self, service: str, count: int) -> None:
        """Start or end processes of a service until it has as many as `count`."""
        named = name_counts(self.counts | {service: count})
        environment.save(self._home, environment.load(self._home) | {"AIDEVOS_REPLICAS": named})
        self._read()
        self.mend()

    def restart(self, services: Iterable[str]) -> None:
        """Replace the processes of these services, one after another, by new ones with the same numbers."""
        for service in services:
            stand_in = Replica(service, STAND_IN)
            self._start_stand_in(stand_in)
            for number in range(self.counts[service]):
                self._replace(Replica(service, number))
            self._end_stand_in(stand_in)

    def _start_stand_in(self, stand_in: Replica) -> None:
        self._configure([*replicas(self.counts), stand_in])
        self._supervisor.add(stand_in.program)
        try:
            self._wait([stand_in])
        except BaseException:
            self._end_stand_in(stand_in)
            raise

    def _replace(self, old: Replica) -> None:
        self._supervisor.remove(old.program)
        self._supervisor.add(old.program)
        self._wait([old])

    def _end_stand_in(self, stand_in: Replica) -> None:
        self._configure(replicas(self.counts))
        self._supervisor.remove(stand_in.program)

    def _configure(self, wanted: Collection[Replica]) -> tuple[list[str], list[str]]:
        """Write and read the configuration of these replicas; return the programs to add and to remove."""
        file = self._home / CONFIG_FILE
        write_secret(file, add_services(file.read_text(), self._settings, self._secrets, wanted).encode())
        return self._supervisor.reload()

    def _wait(self, wanted: Collection[Replica]) -> None:
        wait_until_joined(self._settings, self._secrets, wanted, self._supervisor.check, JOIN_TIMEOUT)

    def _read(self) -> None:
        try:
            self._settings = load(environment.load(self._home), home=self._home)
        except FileNotFoundError:
            raise FleetError(
                f"the fleet under {self._home} was started by an older version: run `make down` and `make up`"
            ) from None
        self._secrets = load_secrets(self._home)
