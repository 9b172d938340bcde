"""TLS to real servers that require a client certificate: used as the settings say, and never skipped."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.factory import prepare_rabbitmq
from aidevos.durable.client import connection
from aidevos.durable.client.connection import connect
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import StoreError
from aidevos.security.tls import client_context, mongo_options
from aidevos.settings import Settings, SettingsError, load
from deploy.local import binaries, mongo_setup, ports
from tests.support.certificates import Authority
from tests.support.rabbitmq import RabbitMq
from tests.support.servers import LocalServer, Servers, free_port

Use = Callable[[Settings], Awaitable[None]]
START_TIMEOUT = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


def started(command: list[str], port: int, folder: Path) -> LocalServer:
    log = folder / f"{port}.log"
    server = LocalServer(command, log, lambda check: ports.wait_for_port("127.0.0.1", port, check, START_TIMEOUT))
    server.start()
    return server


@pytest.fixture(scope="module")
def nats_url(folder: Path, authority: Authority) -> Iterator[str]:
    port = free_port()
    options = {"addr": "127.0.0.1", "port": port, "tlscert": authority.server, "tlskey": authority.server}
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [str(binaries.nats_server()), *flags, "--tlsverify", f"--tlscacert={authority.file}"]
    server = started(command, port, folder)
    yield f"tls://localhost:{port}"
    server.close()


@pytest.fixture(scope="module")
def mongo_url(folder: Path, authority: Authority) -> Iterator[str]:
    port, data = free_port(), folder / "data"
    data.mkdir()
    options = {
        "dbpath": data,
        "port": port,
        "bind_ip": "127.0.0.1",
        "tlsMode": "requireTLS",
        "tlsCertificateKeyFile": authority.server,
        "tlsCAFile": authority.file,
    }
    command = [str(binaries.mongod()), *(f"--{name}={value}" for name, value in options.items())]
    server = started([*command, "--quiet", "--nounixsocket"], port, folder)
    yield f"mongodb://localhost:{port}/?tls=true"
    server.close()


async def use_nats(settings: Settings) -> None:
    opened = await connect(settings.nats_url, "test", tls=client_context(settings))
    await opened.flush()
    await opened.close()


async def use_mongodb(settings: Settings) -> None:
    tls = mongo_options(settings, settings.mongo_url)
    store = MongoStore(settings.mongo_url, "test", timeout=5.0, tls=tls)
    try:
        await store.ping()
        await store.open("thing")
    finally:
        store.close()


async def use_rabbitmq(settings: Settings) -> None:
    await prepare_rabbitmq(settings, FLEET_EVENTS)


@pytest.fixture(params=["nats", "mongodb", "rabbitmq"])
def encrypted(request: pytest.FixtureRequest) -> tuple[str, str, Use, Authority]:
    """Return the setting of a server's URL, the URL, a function that connects to it, and its certificate authority."""
    if request.param == "rabbitmq":
        rabbitmq: RabbitMq = request.getfixturevalue("rabbitmq")
        return "event_bus_url", rabbitmq.tls_url, use_rabbitmq, rabbitmq.authority
    authority: Authority = request.getfixturevalue("authority")
    if request.param == "nats":
        return "nats_url", request.getfixturevalue("nats_url"), use_nats, authority
    return "mongo_url", request.getfixturevalue("mongo_url"), use_mongodb, authority


async def test_a_server_is_reached_with_the_certificates_of_the_settings(
    encrypted: tuple[str, str, Use, Authority],
) -> None:
    setting, url, use, authority = encrypted
    await use(load({}, **{setting: url}, **authority.settings(), tls_required=True))


@pytest.mark.parametrize("missing", ["tls_ca", "tls_certificate"])
async def test_a_server_is_not_reached_without_one_of_the_certificates(
    encrypted: tuple[str, str, Use, Authority], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, url, use, authority = encrypted
    monkeypatch.setattr(connection, "START_WITHIN", 3.0)
    with pytest.raises((SettingsError, StoreError)):
        await use(load({}, **{setting: url}, **(authority.settings() | {missing: ""})))


async def test_a_server_with_the_name_of_another_is_refused(encrypted: tuple[str, str, Use, Authority]) -> None:
    setting, url, use, authority = encrypted
    with pytest.raises((SettingsError, StoreError), match="certificate"):
        await use(load({}, **{setting: url.replace("localhost", "127.0.0.1")}, **authority.settings()))


async def test_a_url_that_asks_for_tls_gets_no_unencrypted_connection(servers: Servers) -> None:
    plain = servers.nats_url("objects").replace("nats://", "tls://")
    with pytest.raises(SettingsError, match="secure connection"):
        await connect(plain, "test")


async def test_a_server_that_leaves_tls_to_its_clients_is_reached_with_it(folder: Path, authority: Authority) -> None:
    port = free_port()
    config = folder / "optional.conf"
    files = f"cert_file: '{authority.server}', key_file: '{authority.server}'"
    config.write_text(f"listen: '127.0.0.1:{port}', allow_non_tls: true, tls: {{{files}}}")
    server = started([str(binaries.nats_server()), "--config", str(config)], port, folder)
    opened = await connect(f"tls://localhost:{port}", "test", tls=client_context(load({}, **authority.settings())))
    assert opened._transport._io_writer.get_extra_info("ssl_object") is not None  # type: ignore[union-attr]
    await opened.close()
    server.close()


async def test_the_launcher_checks_a_mongodb_with_tls(mongo_url: str, authority: Authority) -> None:
    with pytest.raises(SettingsError, match="replica set"):
        mongo_setup.check_external(load({}, mongo_url=mongo_url, **authority.settings()))


def test_a_context_never_leaves_the_server_unchecked(authority: Authority) -> None:
    context = client_context(load({}, **authority.settings()))
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
