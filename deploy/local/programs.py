"""The programs of the local fleet, in one table, and the supervisor's configuration for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from configparser import RawConfigParser
from importlib import import_module
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from aidevos.contracts.built_in import TYPES_OF
from aidevos.process.fleet import LOGS
from aidevos.security.fleet_secrets import Secrets
from aidevos.settings import MAX_REPLICAS, Settings, SettingsError, replica_counts

from ..nats.config import GATEWAY_USER, WORKER_USER
from . import mongo_server, nats_server

# In a checkout `services` lies beside `deploy`; in a wheel both are below `aidevos`.
PACKAGE = __package__.removesuffix("deploy.local") + "services"


class Service(NamedTuple):
    """A folder under `services/` with its NATS user.

    `stores` is True if it also gets MongoDB's URL. `acts_for_others` is True if it may sign delegations, and tokens of
    other services. `listens` is True if it serves HTTP.
    """

    name: str
    user: str
    stores: bool
    acts_for_others: bool = False
    listens: bool = False

    @property
    def command(self) -> list[str]:
        """Return the command line of one process of the service."""
        return [sys.executable, "-P", "-m", f"{PACKAGE}.{self.name}"]

    def load_permissions(self) -> set[str]:
        """Load the service's code, and return the permissions that its types declare."""
        # Imported here, because the supervisor needs neither.
        from aidevos.durable.objects.registry import DurableObjectRegistry

        declared = import_module(f"{PACKAGE}.{self.name}.service").service.types if self.stores else ()
        return DurableObjectRegistry(declared).permissions()


# Started in this order once the servers are ready, and stopped in reverse.
SERVICES = (
    Service("objects", user="objects", stores=True),
    Service("authentication", user="authentication", stores=True),
    Service("user_management", user="user_management", stores=True),
    Service("data_storage", user="data_storage", stores=True),
    Service("api_gateway", user="api_gateway", stores=True),
    Service("projects", user="projects", stores=True, acts_for_others=True),
    Service("events", user="events", stores=True, acts_for_others=True),
    Service("task_worker", user=WORKER_USER, stores=False),
    Service("http_gateway", user=GATEWAY_USER, stores=False, listens=True),
)
SERVICE_NAMES = [service.name for service in SERVICES]
# The modules that the processes of services load, when they start or later.
PRELOADED = (
    f"{__package__}.preloaded",
    *(f"{PACKAGE}.{service.name}.{'bootstrap' if service.listens else 'service'}" for service in SERVICES),
)


def shipped_types() -> dict[str, list[str]]:
    """Return the names of the types that each service hosts."""
    return {service.name: sorted(TYPES_OF.get(service.name, ())) for service in SERVICES}


NATS = "nats"
MONGO = "mongo"
# Every program that a fleet may have, in start order.
ORDER = (NATS, MONGO, *(service.name for service in SERVICES))

SERVER_GRACE = 60.0
LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3
# A process that exits sooner is restarted at once the first time, then after growing pauses.
START_SECONDS = 5
NEVER_GIVE_UP = 1_000_000

CONFIG_FILE = "supervisord.conf"
SOCKET_FILE = "supervisor.sock"
# The supervisor first binds the socket under a longer name: a dot and its PID are added.
SOCKET_LIMIT = 107 - 8


class Replica(NamedTuple):
    """One of the processes of a service, or a server, whose number is 0."""

    service: str
    number: int

    @property
    def program(self) -> str:
        """The name of its program, its log, and its group of the supervisor."""
        return f"{self.service}-{self.number}" if self.number else self.service


# The number of the replica that serves while another one of its service is replaced.
STAND_IN = MAX_REPLICAS


def replica(program: str) -> Replica:
    """Return the replica that has this program."""
    service, _, number = program.partition("-")
    return Replica(service, int(number or 0))


def replicas(counts: Mapping[str, int]) -> list[Replica]:
    """Return the replicas of services with these numbers of processes."""
    return [Replica(service, number) for service, count in counts.items() for number in range(count)]


def count_all(named: str, of_objects: int = 1) -> dict[str, int]:
    """Return the number of processes of every service, in start order.

    `named` is like `AIDEVOS_REPLICAS`. The other services that host objects have `of_objects`, and the rest has one.
    Raises `SettingsError`.
    """
    counts = replica_counts(named)
    for name in counts:
        check_service(name, "AIDEVOS_REPLICAS")
    return {service.name: counts.get(service.name, of_objects if service.stores else 1) for service in SERVICES}


def name_counts(counts: Mapping[str, int]) -> str:
    """Return numbers of processes as `AIDEVOS_REPLICAS` has them."""
    return ",".join(f"{service}={count}" for service, count in counts.items())


def check_service(name: str, where: str) -> None:
    """Raise `SettingsError` if there is no service of this name."""
    names = [service.name for service in SERVICES]
    if name not in names:
        raise SettingsError(f"{where}: {name!r} is none of the services {', '.join(names)}")


def start_order(program: str) -> tuple[int, int]:
    """Return a key that sorts programs in start order: the servers first, and unknown ones last."""
    service, number = replica(program)
    return (ORDER.index(service) if service in ORDER else len(ORDER)), number


def grace(settings: Settings) -> float:
    """Return how many seconds a service may take to end."""
    return settings.drain_timeout + 5


def socket_path(home: Path) -> Path:
    """Return the path of the supervisor's control socket. Raises `SettingsError` if it is too long."""
    path = home / SOCKET_FILE
    if len(os.fsencode(path)) > SOCKET_LIMIT:
        limit = SOCKET_LIMIT - len(SOCKET_FILE) - 1
        raise SettingsError(f"AIDEVOS_HOME={str(home)!r} is too long for a socket path: use at most {limit} bytes")
    return path


def render(home: Path, servers: Mapping[str, list[str]]) -> str:
    """Return the supervisor's configuration without services; `servers` maps each server that it runs to a command."""
    config = RawConfigParser()
    config["unix_http_server"] = {"file": str(socket_path(home)), "chmod": "0700"}
    config["supervisorctl"] = {"serverurl": f"unix://{socket_path(home)}"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    config["supervisord"] = {
        "nodaemon": "true",
        "silent": "true",
        "nocleanup": "true",
        "umask": "077",
        "logfile": str(home / LOGS / "supervisor.log"),
        "logfile_maxbytes": str(LOG_BYTES),
        "logfile_backups": str(LOG_BACKUPS),
        "pidfile": str(home / "supervisor.pid"),
        "childlogdir": str(home / LOGS),
    }
    for name, command in servers.items():
        environment = nats_server.environment() if name == NATS else {}
        config[f"program:{name}"] = _program(home, name, command, SERVER_GRACE, environment)
    for section in config.sections():
        _escape(config, section)
    return _write(config)


def add_services(text: str, settings: Settings, secrets: Secrets, wanted: Collection[Replica]) -> str:
    """Return the supervisor's configuration with these replicas, instead of those that it had.

    It contains passwords. The supervisor starts each program when it is added.
    """
    config = RawConfigParser()
    config.read_string(text)
    services = {service.name: service for service in SERVICES}
    for section in config.sections():
        if replica(section.partition(":")[2]).service in services:
            config.remove_section(section)
    for each in wanted:
        service = services[each.service]
        kind = "fcgi-program" if service.listens else "program"
        config[f"{kind}:{each.program}"] = _replica(each, service, settings, secrets)
        _escape(config, f"{kind}:{each.program}")
    return _write(config)


def _program(home: Path, name: str, command: list[str], grace: float, environment: dict[str, str]) -> dict[str, str]:
    return {
        "command": " ".join(map(quote, command)),
        "directory": str(home),
        "environment": ",".join(f'{key}="{value}"' for key, value in environment.items()),
        "priority": str(start_order(name)[0]),
        "autorestart": "true",
        "startsecs": str(START_SECONDS),
        "startretries": str(NEVER_GIVE_UP),
        "stopwaitsecs": str(round(grace)),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(home / LOGS / f"{name}.log"),
        "stdout_logfile_maxbytes": str(LOG_BYTES),
        "stdout_logfile_backups": str(LOG_BACKUPS),
    }


def _replica(each: Replica, service: Service, settings: Settings, secrets: Secrets) -> dict[str, str]:
    environment = _environment(service, settings, secrets) | {"AIDEVOS_REPLICA": str(each.number)}
    if not service.listens:
        return _program(settings.home, each.program, service.command, grace(settings), environment)
    # The supervisor listens, and hands the socket to each process as its standard input.
    command = [*service.command, "--fd", "0"]
    program = _program(settings.home, each.program, command, grace(settings), environment)
    return program | {"socket": f"tcp://{settings.host}:{settings.port}"}


def _environment(service: Service, settings: Settings, secrets: Secrets) -> dict[str, str]:
    return {
        "AIDEVOS_NATS_URL": nats_server.url(settings, secrets, service.user),
        "AIDEVOS_MONGO_URL": mongo_server.url(settings, secrets, service.name) if service.stores else "",
        "AIDEVOS_EVENT_BUS_URL": settings.event_bus_url,
        "AIDEVOS_TLS_CA": settings.tls_ca,
        "AIDEVOS_TLS_CERTIFICATE": settings.tls_certificate,
        "AIDEVOS_SERVICES": ",".join(other.name for other in SERVICES if other.user != GATEWAY_USER),
        "PYTHONUNBUFFERED": "1",
    }


def _escape(config: RawConfigParser, section: str) -> None:
    config[section] = {key: value.replace("%", "%%") for key, value in config[section].items()}


def _write(config: RawConfigParser) -> str:
    text = StringIO()
    config.write(text)
    return text.getvalue()
