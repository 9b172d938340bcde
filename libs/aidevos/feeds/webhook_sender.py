"""The sender of webhooks, which restricts their destinations.

Promises: a host name is resolved once, and the sender connects to one of the addresses that it has checked, so DNS
rebinding can't redirect it. It reaches only public addresses and the networks that `AIDEVOS_WEBHOOK_NETWORKS` lists.
It follows no redirects and uses no proxy from the environment. The time of a delivery and the bytes read from the
answer are bounded.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

import httpx2
import idna

from aidevos.contracts.envelope import TRACESTATE
from aidevos.contracts.errors import Failure
from aidevos.observability import tracing
from aidevos.observability.slow_log import waiting
from aidevos.settings import Network

# Total seconds for one delivery, and bytes that are read from its answer.
TIMEOUT = 15.0
ANSWER_LIMIT = 16 * 1024
# Concurrent look-ups of host names.
LOOK_UPS = 64
# The number of addresses of one host name that are tried.
ADDRESSES = 4
# Networks that Python considers global but are not: special uses (RFC 6890), which include Oracle's metadata service,
# Azure's WireServer, and documentation (RFC 9637).
_SPECIAL_NETWORKS = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "fec0::/10", "3fff::/20"))
)
NOT_PERMITTED = "has no public address; AIDEVOS_WEBHOOK_NETWORKS permits other networks"
# IPv6 addresses that embed an IPv4 address in their last 32 bits (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class WebhookResponse(NamedTuple):
    """The receiver's response: the status, and the first `ANSWER_LIMIT` bytes of the body."""

    status: int
    body: bytes

    @property
    def accepted(self) -> bool:
        """True if the status is 2xx."""
        return 200 <= self.status <= 299


def is_public(address: Address) -> bool:
    """Return True if the address is on the public Internet. An IPv6 address that embeds one is judged by it."""
    if isinstance(address, IPv6Address):
        embedded = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped
        if embedded is not None:
            return is_public(embedded)
        if address.sixtofour is not None or address.teredo is not None:
            return False
    special = address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL_NETWORKS)
    return address.is_global and not special


class Resolver:
    """Resolves host names in its own threads.

    A name whose DNS server doesn't answer blocks one thread until the system's timeout, however many callers wait
    for it, and never a thread of the event loop's default executor.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UPS, "resolver")
        self._pending: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host name, the preferred ones first. Raises `OSError`."""
        name = host, port
        if name not in self._pending:
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, _addresses_of, host, port)
            self._pending[name] = lookup
            lookup.add_done_callback(partial(self._on_resolved, name))
        return await asyncio.shield(self._pending[name])

    def _on_resolved(self, name: tuple[str, int], lookup: asyncio.Future[Sequence[str]]) -> None:
        del self._pending[name]
        # If every caller is gone, this prevents a warning about an exception that was never retrieved.
        lookup.exception()


def _addresses_of(host: str, port: int) -> Sequence[str]:
    return [str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class WebhookSender:
    """Sends webhooks. `allowed` lists the non-public networks that it may reach; `timeout` is in seconds."""

    def __init__(
        self, allowed: Sequence[Network] = (), *, timeout: float = TIMEOUT, resolve: Resolve | None = None
    ) -> None:
        self._allowed = allowed
        self._timeout = timeout
        self._resolve = resolve or Resolver().resolve

    def check(self, url: str) -> None:
        """Raise `invalid` for an unusable URL, or one whose host is an address that isn't permitted.

        Host names pass, because a refusal would tell which of them exist in the network of this process. They are
        resolved and judged before each delivery.
        """
        target = _parse(url)
        address = _numeric(target)
        if address is not None and not self._may_reach(address):
            raise Failure("invalid", f"{target.host} {NOT_PERMITTED}", field="url")

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
        """POST a JSON body, and return the response.

        Raises `invalid` for an unusable URL, `forbidden` if its host is an address that isn't permitted, and
        `unavailable` if the receiver can't be reached or doesn't answer in time. A host name that has no permitted
        address is reported like one that doesn't exist.
        """
        target = _parse(url)
        sent = dict(headers)
        with tracing.within("client", describe_post, url, sent):
            # The tracestate is for the fleet's own tools.
            sent.pop(TRACESTATE, None)
            return await self._send(target, body, sent)

    async def _send(self, target: httpx2.URL, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
        try:
            with waiting("the receiver of a webhook"):
                async with asyncio.timeout(self._timeout):
                    addresses = await self._addresses(target)
                    return await self._post(target, addresses, body, headers)
        except (TimeoutError, httpx2.TimeoutException):
            raise Failure("unavailable", f"{target.host} did not answer within {self._timeout:g} seconds") from None
        except (httpx2.HTTPError, OSError) as error:
            raise Failure("unavailable", f"{target.host} can't be reached: {_describe(error)}") from None

    async def _addresses(self, target: httpx2.URL) -> list[Address]:
        try:
            found = await self._resolve(target.raw_host.decode(), _port(target))
        except (OSError, UnicodeError):
            found = ()
        usable = [address for address in map(_address, dict.fromkeys(found)) if self._may_reach(address)]
        if not usable:
            code = "unavailable" if _numeric(target) is None else "forbidden"
            raise Failure(code, f"{target.host} {NOT_PERMITTED}")
        return usable[:ADDRESSES]

    def _may_reach(self, address: Address) -> bool:
        inside = (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
        return is_public(address) or any(inside in network for network in self._allowed)

    async def _post(
        self, target: httpx2.URL, addresses: Sequence[Address], body: bytes, headers: Mapping[str, str]
    ) -> WebhookResponse:
        sent = {"content-type": "application/json", "user-agent": "aidevos-webhooks", **headers}
        sent["host"] = target.netloc.decode()
        # The connection goes to an address, so httpx2 must be told which host name the certificate has to match.
        extensions = {"sni_hostname": target.raw_host.decode()}
        async with httpx2.AsyncClient(
            verify=_ssl_context(), trust_env=False, follow_redirects=False, timeout=self._timeout
        ) as client:
            for address in addresses[:-1]:
                try:
                    return await self._exchange(client, target.copy_with(host=str(address)), body, sent, extensions)
                except httpx2.ConnectError:
                    continue
            last = target.copy_with(host=str(addresses[-1]))
            return await self._exchange(client, last, body, sent, extensions)

    async def _exchange(
        self,
        client: httpx2.AsyncClient,
        url: httpx2.URL,
        body: bytes,
        headers: Mapping[str, str],
        extensions: dict[str, str],
    ) -> WebhookResponse:
        async with client.stream("POST", url, content=body, headers=headers, extensions=extensions) as response:
            received = bytearray()
            # Raw bytes, because a compressed body could expand beyond any bound.
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) >= ANSWER_LIMIT:
                    break
            return WebhookResponse(response.status_code, bytes(received[:ANSWER_LIMIT]))


def describe_post(url: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of the span of a delivery. The URL's path and query may hold secrets."""
    target = _parse(url)
    attributes = {"http.request.method": "POST", "server.address": target.host, "server.port": _port(target)}
    return "POST", attributes


def _parse(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
        host, port = parsed.raw_host, parsed.port
        if host.startswith(b"xn--"):
            # httpx2 doesn't refuse invalid Punycode.
            idna.decode(host)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise Failure("invalid", f"the URL is malformed: {error}", field="url") from None
    if port is not None and not 0 < port <= 65535:
        raise Failure("invalid", "the port must be a number from 1 to 65535", field="url")
    if parsed.scheme not in ("http", "https") or not host or parsed.userinfo:
        raise Failure("invalid", "the URL must be http:// or https:// with a host and without credentials", field="url")
    return parsed


def _numeric(url: httpx2.URL) -> Address | None:
    """Return the address that the host spells, in any form that a connection would take; None for a name."""
    try:
        (*_, place), *_ = socket.getaddrinfo(url.raw_host.decode(), None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return _address(str(place[0]))


def _address(text: str) -> Address:
    # A link-local IPv6 address may carry the name of its interface after a `%`.
    return ip_address(text.partition("%")[0])


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


@cache
def _ssl_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__
