"""Fixtures for all tests: real servers, and a fresh database in them."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, TypeVar

import hypothesis
import pytest

import tests.support.kits  # noqa: F401
from aidevos.settings import SettingsError
from tests.support import scheduling
from tests.support.browser import Browsers
from tests.support.local_fleet import LocalFleet
from tests.support.paths import temporary_root
from tests.support.rabbitmq import RabbitMq
from tests.support.servers import Servers, drop_database
from tests.support.world import Worlds

hypothesis.settings.load_profile("everyday")
# `jsonschema` would derive the grammars of formats that no test checks, which takes seconds.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
# Where `tmp_path` is.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(temporary_root()))

WORLDS = pytest.StashKey[Worlds]()
FLEET = pytest.StashKey[LocalFleet]()


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
    """Print a line on the terminal, even while pytest captures output."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "tests")
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():  # type: ignore[union-attr]
        os.write(2, f"\n[{worker}] {line}\n".encode())


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Servers]:
    """Start real NATS and MongoDB for the whole run; if one is missing, each test that needs it fails in one line."""
    yield from _running(pytestconfig, "NATS and MongoDB", Servers)


@pytest.fixture(scope="session")
def rabbitmq(pytestconfig: pytest.Config) -> Iterator[RabbitMq]:
    """Start a real RabbitMQ for the whole run; if it is missing, each test that needs it fails in one line."""
    yield from _running(pytestconfig, "RabbitMQ", RabbitMq)


@pytest.fixture(scope="session")
def browsers(pytestconfig: pytest.Config) -> Iterator[Browsers]:
    """Start real browsers for the whole run; if none is found, each test that needs one fails in one line."""
    yield from _running(pytestconfig, "the driver of browsers", Browsers)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Return Prometheus' own checker of rules; if it is missing, each test that needs it fails in one line."""
    found = shutil.which("promtool")
    if found is None:
        pytest.fail("promtool was not found: install Debian's package prometheus", pytrace=False)
    return found


@pytest.fixture(scope="session")
def worlds(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Worlds]:
    """Run the services on the servers, one set of them at a time."""
    worlds = request.config.stash[WORLDS] = Worlds(servers)
    yield worlds
    worlds.end()


@pytest.fixture(scope="session")
def local_fleet() -> Iterator[LocalFleet]:
    fleet = LocalFleet(AIDEVOS_ACCESS_LOG="true", AIDEVOS_WEBHOOK_NETWORKS="127.0.0.0/8")
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def shared_fleet(pytestconfig: pytest.Config, local_fleet: LocalFleet) -> LocalFleet:
    """Start a fleet for several modules, with the mark `xdist_group("fleet")`, which one process runs in turn.

    Tests may kill its processes. They leave it up, and as large as it was.
    """
    pytestconfig.stash[FLEET] = local_fleet
    if not local_fleet.is_up():
        return local_fleet.up()
    local_fleet.recover()
    return local_fleet


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need servers, and run the longest first."""
    for item in items:
        if {"servers", "rabbitmq", "browsers", "promtool"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker("servers")
    scheduling.arrange(items)


@pytest.hookimpl(wrapper=True)
def pytest_collection_finish(session: pytest.Session) -> Generator[None, object, object]:
    """Tell pytest-xdist's scheduler the groups of tests; its own way to do so changes what reports call them."""
    # Collections of garbage skip the modules and tests, which stay to the end.
    gc.collect()
    gc.freeze()
    items: Any = session.items
    if hasattr(session.config, "workerinput"):
        session.items = scheduling.named(items)  # type: ignore[assignment]
    try:
        return (yield)
    finally:
        session.items = items


def pytest_xdist_auto_num_workers() -> int:
    return scheduling.processes()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.Scheduling:
    return scheduling.Scheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop the shared services before a test that uses the servers without them, and the fleet before other modules."""
    needs_them = item.get_closest_marker("servers") is not None
    if WORLDS in item.config.stash and needs_them and "worlds" not in getattr(item, "fixturenames", ()):
        item.config.stash[WORLDS].end()
    if FLEET in item.config.stash and scheduling.group(item) != "fleet":
        item.config.stash[FLEET].run("down").check_returncode()
        del item.config.stash[FLEET]


def _new_database(servers: Servers) -> Iterator[str]:
    name = f"test_{secrets.token_hex(8)}"
    yield name
    servers.heal()
    drop_database(servers.mongo_url, name)


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """Return the name of a new database for this test, and drop the database afterwards."""
    yield from _new_database(servers)


@pytest.fixture(scope="module")
def shared_database(servers: Servers) -> Iterator[str]:
    """Return the name of a database for tests of a module that only read it; the first of them fills it."""
    yield from _new_database(servers)


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Repair the servers after each test that used them."""
    yield
    if "servers" in request.fixturenames:
        request.getfixturevalue("servers").heal()
    if "rabbitmq" in request.fixturenames:
        request.getfixturevalue("rabbitmq").start()
