"""The gateway closes everything that it has opened when its start fails."""

from __future__ import annotations

import pytest

from aidevos.settings import Settings, SettingsError
from services.http_gateway import bootstrap
from tests.support.cables import cut


class NoCatalogue:
    def __init__(self, connection: object) -> None: ...

    async def follow(self) -> None: ...

    async def wait_until_loaded(self) -> None:
        raise SettingsError("there is no bucket of types")


@pytest.mark.parametrize("bus_fails_to_close", [False, True])
async def test_a_start_that_fails_leaves_nothing_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, bus_fails_to_close: bool
) -> None:
    cables = cut(monkeypatch)
    cables.bus_fails_to_close = bus_fails_to_close
    monkeypatch.setattr(bootstrap, "TypeCatalogue", NoCatalogue)

    with pytest.raises((SettingsError, OSError)):
        async with bootstrap.open_application(settings):
            pass

    assert cables.events == ["close bus", "close connection"]
