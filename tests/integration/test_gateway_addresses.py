"""The client address that a host receives, with and without proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aidevos.contracts import envelope
from aidevos.settings import SettingsError, load
from tests.support.gateway_world import World, gateway_world
from tests.support.servers import Servers

OBJECT = "/durable-objects/counter:c"


@pytest.fixture
async def direct(servers: Servers) -> AsyncIterator[World]:
    async with gateway_world(servers) as world:
        yield world


@pytest.fixture
async def proxied(servers: Servers) -> AsyncIterator[World]:
    async with gateway_world(servers, trusted_proxies="127.0.0.0/8, 10.1.0.0/16") as world:
        yield world


async def told(world: World, *forwarded: str) -> str:
    """Return the address that the host receives for a request with these X-Forwarded-For headers."""
    await world.http.get(OBJECT, headers=[("X-Forwarded-For", value) for value in forwarded])
    return world.host.headers.get(envelope.CLIENT_ADDRESS, "")


async def test_without_trusted_proxies_it_is_the_connection_s_whatever_headers_say(direct: World) -> None:
    assert await told(direct) == "127.0.0.1"
    assert await told(direct, "192.0.2.1") == "127.0.0.1"


async def test_a_client_can_t_name_its_own(direct: World) -> None:
    await direct.http.get(OBJECT, headers={envelope.CLIENT_ADDRESS: "192.0.2.1"})

    assert direct.host.headers[envelope.CLIENT_ADDRESS] == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (("192.0.2.1",), "192.0.2.1"),
        (("192.0.2.9, 192.0.2.1",), "192.0.2.1"),
        (("192.0.2.1, 10.1.2.3",), "192.0.2.1"),
        (("192.0.2.9", "192.0.2.1"), "192.0.2.1"),
        (("192.0.2.1:4711",), "192.0.2.1"),
        (("2001:DB8::0:1",), "2001:db8::1"),
        (("::ffff:192.0.2.1",), "192.0.2.1"),
        (("garbage",), ""),
        ((), "127.0.0.1"),
    ],
)
async def test_a_trusted_proxy_tells_the_last_one_that_is_no_proxy(
    proxied: World, forwarded: tuple[str, ...], address: str
) -> None:
    assert await told(proxied, *forwarded) == address


async def test_a_trailer_names_no_address(proxied: World) -> None:
    head = f"GET {OBJECT} HTTP/1.1\r\nHost: x\r\nAuthorization: {proxied.http.headers['Authorization']}\r\n"
    head += "X-Forwarded-For: 192.0.2.1\r\nTransfer-Encoding: chunked\r\n\r\n"

    await proxied.raw(head.encode() + b"0\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n")

    assert proxied.host.headers[envelope.CLIENT_ADDRESS] == "192.0.2.1"


@pytest.mark.parametrize("value", ["proxy.local", "10.0.0.0/33", "10.0.0.1/8"])
def test_a_proxy_that_is_no_network_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_TRUSTED_PROXIES"):
        load({"AIDEVOS_TRUSTED_PROXIES": value})


@pytest.mark.parametrize("value", ["api.example.org", "ftp://x", "https://", "http://[::", "http://a:b", "http://a/?x"])
def test_a_public_url_that_is_none_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_PUBLIC_URL"):
        load({"AIDEVOS_PUBLIC_URL": value})


def test_the_public_url_is_where_the_gateway_listens_unless_it_is_set() -> None:
    assert load({}).public_url == "http://127.0.0.1:8080"
    assert load({"AIDEVOS_HOST": "::1", "AIDEVOS_PORT": "9000"}).public_url == "http://[::1]:9000"
    assert load({"AIDEVOS_PUBLIC_URL": "https://api.example.org/"}).public_url == "https://api.example.org"
