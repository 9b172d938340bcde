"""Fixtures that every test may use: real servers, and a fresh database in them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import hypothesis
import pytest

import tests.support.kits  # noqa: F401
from aidevos.settings import SettingsError
from tests.support import scheduling
from tests.support.browser import Browsers
from tests.support.rabbitmq import RabbitMq
from tests.support.servers import Servers, drop_database
from tests.support.world import Worlds

hypothesis.settings.load_profile("everyday")

WORLDS = pytest.StashKey[Worlds]()


class Startable(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


Started = TypeVar("Started", bound=Startable)


def _running(config: pytest.Config, name: str, find: Callable[[], Started]) -> Iterator[Started]:
    _say(config, f"starting {name} …")
    found: Started | None = None
    try:
        found = find()
    except SettingsError as error:
        missing = str(error)
    if found is None:
        pytest.fail(missing, pytrace=False)
    try:
        found.start()
        yield found
    finally:
        found.close()


def _say(config: pytest.Config, line: str) -> None:
    """Tell whoever runs the tests, whatever is captured."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "tests")
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():  # type: ignore[union-attr]
        os.write(2, f"\n[{worker}] {line}\n".encode())


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Servers]:
    """Real NATS and MongoDB for the whole run; missing ones fail each test that needs them, in one line."""
    yield from _running(pytestconfig, "NATS and MongoDB", Servers)


@pytest.fixture(scope="session")
def rabbitmq(pytestconfig: pytest.Config) -> Iterator[RabbitMq]:
    """A real RabbitMQ for the tests that need one; a missing one fails each of them, in one line."""
    yield from _running(pytestconfig, "RabbitMQ", RabbitMq)


@pytest.fixture(scope="session")
def browsers(pytestconfig: pytest.Config) -> Iterator[Browsers]:
    """Real browsers for the tests of pages; a missing one fails each of them, in one line."""
    yield from _running(pytestconfig, "the driver of browsers", Browsers)


@pytest.fixture(scope="session")
def worlds(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Worlds]:
    """The services on the servers, a set of them at a time."""
    worlds = request.config.stash[WORLDS] = Worlds(servers)
    yield worlds
    worlds.end()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need servers, and let the longest come first."""
    for item in items:
        if {"servers", "rabbitmq", "browsers"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker("servers")
    items.sort(key=scheduling.weight)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return scheduling.processes(config)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.Scheduling:
    return scheduling.Scheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """End the services before a test that wants the servers for itself."""
    needs_them = item.get_closest_marker("servers") is not None
    if WORLDS in item.config.stash and needs_them and "worlds" not in getattr(item, "fixturenames", ()):
        item.config.stash[WORLDS].end()


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """The name of a database that is this test's alone, dropped afterwards."""
    name = f"test_{secrets.token_hex(8)}"
    yield name
    servers.heal()
    drop_database(servers.mongo_url, name)


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test finds a server broken by the one before."""
    yield
    if "servers" in request.fixturenames:
        request.getfixturevalue("servers").heal()
    if "rabbitmq" in request.fixturenames:
        request.getfixturevalue("rabbitmq").start()
