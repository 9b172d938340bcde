"""Fixtures that every test may use: real servers, and a fresh database in them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import hypothesis
import pytest

from aidevos.settings import SettingsError
from tests.support.browser import Browsers
from tests.support.kits import PATIENT
from tests.support.rabbitmq import RabbitMq
from tests.support.servers import Servers, drop_database

hypothesis.settings.register_profile("patient", PATIENT)
hypothesis.settings.load_profile("patient")


class Startable(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


Started = TypeVar("Started", bound=Startable)


def _running(find: Callable[[], Started]) -> Iterator[Started]:
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


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real NATS and MongoDB for the whole run; missing ones fail each test that needs them, in one line."""
    yield from _running(Servers)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMq]:
    """A real RabbitMQ for the tests that need one; a missing one fails each of them, in one line."""
    yield from _running(RabbitMq)


@pytest.fixture(scope="session")
def browsers() -> Iterator[Browsers]:
    """Real browsers for the tests of pages; a missing one fails each of them, in one line."""
    yield from _running(Browsers)


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
