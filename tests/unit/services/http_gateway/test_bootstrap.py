"""The gateway closes everything that it has opened when its start fails, and applies its connection settings."""

from __future__ import annotations

from typing import Any

import pytest
from uvicorn.server import ServerState

from aidevos.settings import Settings, SettingsError, load
from services.http_gateway import bootstrap, declared_routes
from tests.support.fake_connections import install_fakes


class NoCatalogue:
    def __init__(self, connection: object) -> None: ...

    async def follow(self) -> None: ...

    async def wait_until_loaded(self) -> None:
        raise SettingsError("there is no bucket of types")


@pytest.mark.parametrize("bus_fails_to_close", [False, True])
async def test_a_start_that_fails_leaves_nothing_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, bus_fails_to_close: bool
) -> None:
    connections = install_fakes(monkeypatch)
    connections.bus_fails_to_close = bus_fails_to_close
    monkeypatch.setattr(bootstrap, "TypeCatalogue", NoCatalogue)

    with pytest.raises((SettingsError, OSError)):
        async with bootstrap.open_application(settings):
            pass

    assert connections.events == ["close bus", "close connection"]


async def test_the_settings_bound_connections() -> None:
    settings = load({"AIDEVOS_HEAD_TIMEOUT": "7", "AIDEVOS_IDLE_TIMEOUT": "8", "AIDEVOS_BODY_RATE": "9"})
    config = bootstrap.server_config(settings, declared_routes.not_found)
    config.load()

    protocol: Any = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})

    assert protocol._limits[:3] == (7.0, 8.0, 9)
    assert protocol.timeout_keep_alive == 8
