"""Real NATS and MongoDB for the tests, on free ports in a temporary home, and breakable on demand.

They come from `AIDEVOS_NATS_URL` and `AIDEVOS_MONGO_URL` if set, else from programs (PATH or
wheels), else from containers if a Docker engine answers.
"""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import nats
import pymongo

from aidevos.durable.hosting.provision import provision
from aidevos.process import mongo_users
from aidevos.process.fleet import ADMIN_USER, with_credentials
from aidevos.security.fleet_secrets import Secrets
from aidevos.security.keys import SigningKeys, ensure_signing_key
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings, SettingsError, load
from deploy.local import binaries, mongo_server, mongo_setup, nats_server, ports
from deploy.local.credentials import ensure_secrets
from tests.support.orphans import end_with_parent
from tests.support.paths import temporary_folder

START_TIMEOUT = 60.0
NATS_IMAGE = "nats:2"
MONGO_IMAGE = "mongo:8.0"
PROGRAMS = {NATS_IMAGE: Path("nats-server"), MONGO_IMAGE: Path("mongod")}
# Below the ephemeral range, so that no outgoing connection takes the port of a server that is down.
FREE_PORTS = range(15_000, 32_000)
# Starts all children: the kernel signals a child's parent death when the thread that started it ends.
_PARENT = ThreadPoolExecutor(1)
# A client hashes its password 15,000 times by default, and at least 5,000 times. Each test has clients of its own.
TEST_OPTIONS = ("--setParameter", "enableTestCommands=1", "--setParameter", "scramSHA256IterationCount=5000")
# Otherwise each start writes several hundred megabytes of zeros.
TEST_ENGINE = f"{mongo_server.ENGINE},log=(prealloc=false,file_max=8MB)"


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    while True:
        port = random.SystemRandom().choice(FREE_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server(Protocol):
    """One server, and the faults that a test can cause. Each method returns once its effect is complete."""

    def start(self) -> None:
        """Start the server unless it runs, and wait until it is ready."""

    def stop(self) -> None:
        """Shut the server down in an orderly way."""

    def kill(self) -> None:
        """Kill the server, as `kill -9` does."""

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does: connections stay open, but nothing answers."""

    def resume(self) -> None: ...

    def runs(self) -> bool:
        """Return False if the server has ended."""

    def restart(self) -> None:
        """Call `stop`, then `start`."""

    def close(self) -> None:
        """End the server for good, as fast as possible."""


class _Restart:
    def restart(self: Server) -> None:
        self.stop()
        self.start()


class LocalServer(_Restart):
    """A server that is a child of this process, and ends with it."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        ready: Callable[[Callable[[], None]], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._log = log
        self._ready = ready
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.resume()
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = _PARENT.submit(
                    subprocess.Popen,
                    self._command,
                    stdout=log,
                    stderr=log,
                    cwd=self._log.parent,
                    env=self._environment,
                    preexec_fn=end_with_parent,
                ).result()
            self._ready(self._check)

    def stop(self) -> None:
        self.resume()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            # Returns once every thread of the process has stopped.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            self._process.wait(START_TIMEOUT)

    def _check(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{self._command[0]} ended at once:\n{self._log.read_text()[-2000:]}")


class ContainerServer(_Restart):
    """A server in a container, on the host's network and with the same path to its home."""

    def __init__(
        self,
        image: str,
        command: Sequence[str],
        home: Path,
        ready: Callable[[Callable[[], None]], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        from testcontainers.core.container import DockerContainer

        self._ready = ready
        self._container = DockerContainer(
            image,
            entrypoint=[command[0]],
            command=shlex.join(command[1:]),
            user=f"{os.getuid()}:{os.getgid()}",
            network_mode="host",
            env=dict(environment or {}),
        ).with_volume_mapping(str(home), str(home), "rw")
        self._running: Any = None

    def start(self) -> None:
        if self._running is None:
            self._running = self._container.start().get_wrapped_container()
        self.resume()
        self._running.start()
        self._ready(lambda: None)

    def stop(self) -> None:
        self.resume()
        self._running.stop(timeout=round(START_TIMEOUT))

    def kill(self) -> None:
        self._running.kill()
        self._running.wait()

    def pause(self) -> None:
        self._running.pause()

    def resume(self) -> None:
        self._running.reload()
        if self._running.status == "paused":
            self._running.unpause()

    def runs(self) -> bool:
        self._running.reload()
        return bool(self._running.status in ("running", "paused"))

    def close(self) -> None:
        self._container.stop()


class ExternalServer(_Restart):
    """A server that someone else runs: tests can use it, but not break it."""

    def start(self) -> None:
        """Do nothing: it already runs."""

    def stop(self) -> None:
        """Do nothing: it keeps running."""

    def kill(self) -> None:
        raise RuntimeError("this test breaks its servers: unset their URLs, AIDEVOS_…_URL")

    pause = kill

    def resume(self) -> None:
        """Do nothing: it was never paused."""

    def runs(self) -> bool:
        return True

    restart = kill

    def close(self) -> None:
        """Do nothing: it keeps running."""


def find_server(
    find: Callable[[], Path],
    image: str,
    home: Path,
    command: Callable[[Path], list[str]],
    ready: Callable[[Callable[[], None]], None],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Server:
    """Return a server that runs the program, else one in a container; raise `SettingsError` if neither is possible."""
    try:
        program = find()
    except SettingsError:
        if not docker_answers():
            raise
        return ContainerServer(image, command(PROGRAMS[image]), home, ready)
    return LocalServer(command(program), home / f"{program.name}.log", ready, {**os.environ, **environment})


class Servers:
    """NATS with the fleet's users, streams and buckets, and MongoDB as a replica set.

    `home` holds the signing key and all data; by default, it is in memory if there is room. `mongo_url` is an
    administrator's URL, which may set fail points and use any database.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or temporary_folder("test")
        urls = {name: os.environ.get(name, "") for name in ("AIDEVOS_NATS_URL", "AIDEVOS_MONGO_URL")}
        self._settings = load(urls, home=self.home, nats_port=free_port(), mongo_port=free_port())
        self._secrets: Secrets = ensure_secrets(self.home)
        self.nats: Server = ExternalServer()
        self.mongo: Server = ExternalServer()
        if not self._settings.nats_url:
            nats_server.configure(self._settings, self._secrets)
            found = binaries.nats_server, NATS_IMAGE, self.home, self._nats_command, self._nats_ready
            self.nats = find_server(*found, nats_server.environment())
        if not self._settings.mongo_url:
            mongo_server.configure(self._settings, self._secrets)
            self.mongo = find_server(binaries.mongod, MONGO_IMAGE, self.home, self._mongo_command, self._mongo_ready)

    def start(self) -> None:
        """Start both servers, and create the signing key and the fleet's streams and buckets."""
        ensure_signing_key(self.home)
        self.heal()
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(asyncio.run, self._provision()).result()

    def heal(self) -> None:
        """Undo the faults that a test left behind."""
        self.nats.start()
        self.mongo.start()

    def close(self) -> None:
        self.nats.close()
        self.mongo.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def nats_url(self, user: str) -> str:
        """Return the URL with the credentials of a user: `objects`, `gateway`, `client` or `fleet`."""
        return nats_server.url(self._settings, self._secrets, user)

    @property
    def mongo_url(self) -> str:
        return mongo_server.url(self._settings, self._secrets, ADMIN_USER)

    def mongo_url_of(self, service: str, database: str, types: Collection[str]) -> str:
        """Return the URL of a service's user, who may use the collections of these types in this database."""
        with mongo_users.Admin(self.mongo_url) as admin:
            mongo_users.grant(admin, database, service, types)
        return with_credentials(self.mongo_url, service, self._secrets.mongo[service])

    def insert(self, database: str, collection: str, documents: Iterator[dict[str, Any]]) -> None:
        """Insert documents into a collection directly."""
        with pymongo.MongoClient[dict[str, Any]](self.mongo_url) as client:
            while batch := list(islice(documents, 1000)):
                client[database][collection].insert_many(batch)

    def issuer(self) -> TokenIssuer:
        """Return an issuer of tokens for processes on these servers."""
        return TokenIssuer(SigningKeys(self.home), self.public_url)

    @property
    def public_url(self) -> str:
        return self.settings().public_url

    def settings(self, user: str = "objects", **overrides: Any) -> Settings:
        """Return a service's settings; pass a fresh `mongo_database` among the overrides."""
        urls = {"nats_url": self.nats_url(user), "mongo_url": self.mongo_url}
        return load({}, **{"home": self.home, **urls, **overrides})

    def _nats_command(self, program: Path) -> list[str]:
        return nats_server.command(program, self._settings)

    def _mongo_command(self, program: Path) -> list[str]:
        return mongo_server.command(program, self._settings, TEST_OPTIONS, cache=0.25, engine=TEST_ENGINE)

    def _nats_ready(self, check: Callable[[], None]) -> None:
        ports.wait_for_port(self._settings.host, self._settings.nats_port, check, START_TIMEOUT)

    def _mongo_ready(self, check: Callable[[], None]) -> None:
        ports.wait_for_port(mongo_server.HOST, self._settings.mongo_port, check, START_TIMEOUT)
        mongo_setup.prepare(self._settings, self._secrets)

    async def _provision(self) -> None:
        connection = await nats.connect(self.nats_url("fleet"))
        await provision(connection, self._settings)
        await connection.close()


def drop_database(url: str, name: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        client.drop_database(name)


def docker_answers() -> bool:
    import docker

    try:
        return bool(docker.from_env().ping())
    except docker.errors.DockerException:
        return False
