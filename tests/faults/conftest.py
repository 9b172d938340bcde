"""The shared services, for tests that start again whatever they kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.world import World, Worlds


@pytest.fixture
def world(request: pytest.FixtureRequest, worlds: Worlds) -> Iterator[World]:
    """Run the shared services; if a parameter is `rabbitmq`, run others of which events go through RabbitMQ."""
    if getattr(request, "param", "") != "rabbitmq":
        yield worlds.shared()
        return
    rabbitmq = request.getfixturevalue("rabbitmq")
    rabbitmq.start()
    with worlds.alone(event_bus_url=rabbitmq.url) as world:
        yield world
