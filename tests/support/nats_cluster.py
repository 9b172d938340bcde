"""A cluster of three NATS servers that can be killed, with the fleet's users, streams and buckets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from aidevos.durable.hosting.provision import provision
from aidevos.process.fleet import with_credentials
from aidevos.security.keys import SigningKeys, ensure_signing_key
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings, load
from deploy.local import binaries, nats_server, ports
from deploy.local.credentials import ensure_secrets
from tests.support.cluster import Cluster
from tests.support.network import LOOPBACK, Network
from tests.support.servers import NATS_IMAGE, Server, find_server, free_port

START_TIMEOUT = 30.0


class NatsCluster(Cluster):
    """Three servers on free ports; `home` holds the signing key. MongoDB is somewhere else, at `mongo_url`.

    Each server's files are in a folder with its name. Where `sync` isn't "always", a power cut loses what was written
    within that time.
    """

    def __init__(
        self, mongo_url: str, folder: Path, *, replicas: int = 3, network: Network = LOOPBACK, sync: str = "always"
    ) -> None:
        self.home = folder / "home"
        self.mongo_url = mongo_url
        self.settings = load({}, home=self.home, stream_replicas=replicas)
        self._secrets = ensure_secrets(self.home)
        self._network = network
        self._sync = sync
        names = ("n1", "n2", "n3")
        nodes = {name: self._node(name, folder) for name in names}
        self._urls = [f"nats://{node.host}:{node.nats_port}" for node in nodes.values()]
        self._monitors = {name: f"{nodes[name].host}:{free_port()}" for name in names}
        routes = {name: f"{nodes[name].host}:{free_port()}" for name in names}
        self._members = {name: self._member(name, node, routes) for name, node in nodes.items()}

    def start(self) -> None:
        """Start all servers, and create the signing key and the fleet's streams and buckets."""
        ensure_signing_key(self.home)
        with ThreadPoolExecutor(len(self._members)) as together:
            list(together.map(self.start_member, self._members))
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(asyncio.run, self._provision()).result()

    def nats_url(self, user: str) -> str:
        """Return the URLs of all servers with the credentials of a user."""
        return with_credentials(",".join(self._urls), user, self._secrets.nats[user])

    def issuer(self) -> TokenIssuer:
        return TokenIssuer(SigningKeys(self.home), self.settings.public_url)

    def _node(self, name: str, folder: Path) -> Settings:
        return load({}, home=folder / name, host=self._network.address(name), nats_port=free_port())

    def _member(self, name: str, node: Settings, routes: Mapping[str, str]) -> Server:
        config = nats_server.configure(node, self._secrets)
        peers = ", ".join(f'"nats://{route}"' for route in routes.values())
        clustered = f'cluster: {{name: tests, listen: "{routes[name]}", routes: [{peers}]}}\n'
        named = f'server_name: {name}\nhttp: "{self._monitors[name]}"\n'
        synced = config.read_text().replace('"sync_interval":"always"', f'"sync_interval":"{self._sync}"')
        config.write_text(f"{named}{clustered}{synced}")

        def command(program: Path) -> list[str]:
            return [*self._network.enter(name), *nats_server.command(program, node)]

        ready = partial(_wait, node.host, node.nats_port)
        return find_server(binaries.nats_server, NATS_IMAGE, node.home, command, ready)

    def connections_of(self, name: str) -> list[str]:
        """Return the names of the connections to a server."""
        with urlopen(f"http://{self._monitors[name]}/connz") as answer:
            return [connection.get("name", "") for connection in json.load(answer)["connections"]]

    async def _provision(self) -> None:
        connection = await nats.connect(self.nats_url("fleet").split(","))
        await wait_for_jetstream(connection.jetstream(timeout=1))
        await provision(connection, self.settings)
        await connection.close()


async def wait_for_jetstream(js: JetStreamContext) -> None:
    """Return once the cluster has elected its leader."""
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            await js.account_info()
        except NatsError:
            assert time.monotonic() < end, "the cluster elected no leader"
            await asyncio.sleep(0.05)
        else:
            return


async def make_leader(connection: Client, stream: str, name: str) -> None:
    """Let a server lead a stream, and return once it does."""
    end = time.monotonic() + START_TIMEOUT
    while await _leader_of(connection, stream) != name:
        assert time.monotonic() < end, f"{name} doesn't lead {stream}"
        wanted = json.dumps({"placement": {"preferred": name}}).encode()
        with contextlib.suppress(NatsError):
            await connection.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", wanted, timeout=2)


async def wait_for_leader(connection: Client, stream: str, but: str) -> None:
    """Return once another server than this one leads a stream."""
    end = time.monotonic() + START_TIMEOUT
    while await _leader_of(connection, stream) in ("", but):
        assert time.monotonic() < end, f"nobody leads {stream}"
        await asyncio.sleep(0.05)


async def _leader_of(connection: Client, stream: str) -> str:
    """Return the name of the server that leads a stream, or an empty string if none does."""
    try:
        found = (await connection.jetstream(timeout=1).stream_info(stream)).cluster
    except NatsError:
        return ""
    return (found and found.leader) or ""


async def wait_for_copies(js: JetStreamContext, within: float = START_TIMEOUT) -> None:
    """Return once every stream has a leader and all of its copies are up to date."""
    end = time.monotonic() + within
    while not await _are_complete(js):
        assert time.monotonic() < end, "a stream has too few copies"
        await asyncio.sleep(0.05)


async def _are_complete(js: JetStreamContext) -> bool:
    try:
        return all(map(_is_complete, await js.streams_info()))
    except NatsError:
        return False


def _is_complete(found: StreamInfo) -> bool:
    cluster = found.cluster
    copies = (cluster and cluster.replicas) or []
    # A server that has just been asked for more copies may not name the others yet.
    wanted = (found.config.num_replicas or 1) - 1
    return bool(cluster and cluster.leader) and len(copies) == wanted and all(peer.current for peer in copies)


def _wait(host: str, port: int, check: Callable[[], None]) -> None:
    ports.wait_for_port(host, port, check, START_TIMEOUT)
