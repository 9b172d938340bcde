"""The Secrets, the step that prepares the servers, and a host in its pod's home work together on real servers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import connect
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.process.mongo_users import PREFIX, Admin
from aidevos.process.serving import serve
from aidevos.security.fleet_secrets import SECRETS_FILE
from aidevos.security.keys import SigningKeys
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings, load
from deploy.kubernetes.__main__ import provision
from deploy.kubernetes.manifests import manifests
from deploy.local import binaries, ports
from services.objects.service import service
from tests.support.host_processes import eventually
from tests.support.http import http_client
from tests.support.pods import Manifest, data_of, environment_of, mount, pod_of
from tests.support.servers import Servers, free_port
from tests.support.shop import Basket


@contextmanager
def nats_of_the_chart(folder: Path, port: int, made: list[Manifest]) -> Iterator[None]:
    """Run a server with a configuration like that of NATS's own chart, which includes the fleet's part of it."""
    for name, content in data_of(made, "aidevos-nats").items():
        (folder / "nats-aidevos").mkdir(exist_ok=True)
        (folder / "nats-aidevos" / name).write_bytes(content)
    (folder / "nats-config").mkdir()
    config = folder / "nats-config" / "nats.conf"
    store = f'"jetstream": {{"store_dir": "{folder}/data", "sync_interval": "always"}}'
    config.write_text(
        f'{{\n  include ../nats-aidevos/aidevos.conf;\n  "host": "127.0.0.1", "port": {port}, {store}\n}}'
    )
    command = [str(binaries.nats_server()), "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            ports.wait_for_port("127.0.0.1", port, lambda: None, 10)
            yield
        finally:
            process.kill()


@pytest.mark.timeout(60)
async def test_a_host_with_its_pods_secrets_serves_its_objects(servers: Servers, database: str, tmp_path: Path) -> None:
    port, probes, home = free_port(), free_port(), tmp_path / "owner"
    home.mkdir()
    # The passwords of the users that these servers have already.
    shutil.copy(servers.home / SECRETS_FILE, home)
    owner = load({}, home=home, nats_url=f"nats://127.0.0.1:{port}", mongo_url=servers.mongo_url)
    made = manifests(owner, "aidevos", DurableObjectRegistry([Basket]))
    with nats_of_the_chart(tmp_path, port, made):
        await asyncio.to_thread(provision, pod_settings("provision", made, tmp_path, mongo_database=database))
        own = {"host": "127.0.0.1", "probe_port": probes, "host_name": "objects-0", "mongo_database": database}
        host = asyncio.create_task(serve(service, pod_settings("objects", made, tmp_path, **own)))
        try:
            async with http_client(base_url=f"http://127.0.0.1:{probes}") as http:
                await eventually(lambda: _is_ready(http))
            answer = await _increment(owner, pod_settings("http-gateway", made, tmp_path).nats_url)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await host

    assert answer == 1
    assert "obj_basket" in collections_granted(servers, database)


def collections_granted(servers: Servers, database: str) -> set[str]:
    """Return the collections of the database that the service `objects` may use."""
    with Admin(servers.mongo_url) as admin:
        (role,) = admin.admin.command("rolesInfo", f"{PREFIX}objects", showPrivileges=True)["roles"]
    resources = [privilege["resource"] for privilege in role["privileges"]]
    return {resource["collection"] for resource in resources if resource["db"] == database}


def pod_settings(component: str, made: list[Manifest], folder: Path, **own: object) -> Settings:
    pod = pod_of(component)
    return load(environment_of(pod, made), home=mount(pod, made, folder / component), **own)


async def _increment(owner: Settings, nats_url: str) -> int:
    """Call an object with a token of the authentication service's key, which the pods know by the ConfigMap."""
    token = "Bearer " + TokenIssuer(SigningKeys(owner.home), owner.public_url).issue("tester", roles=("admin",))
    connection = await connect(nats_url, "test")
    client = DurableObjectClient(connection, lambda: token)
    await client.start()
    try:
        answer: int = await client.call("counter", "c", "increment", by=1)
        return answer
    finally:
        await connection.close()


async def _is_ready(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/health/ready")).status_code == 200
    except httpx2.TransportError:
        return False
