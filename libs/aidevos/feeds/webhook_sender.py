"""Webhooks as they leave: signed by Standard Webhooks, and only to where they may go.

Promises: a name is looked up once, and what is connected to is one of the very addresses that were judged, so
that no second answer of the name's server leads elsewhere. Only public addresses are reached, and the networks
that `AIDEVOS_WEBHOOK_NETWORKS` lists. No redirect is followed and no proxy of the environment used. Time, and
what is read of the answer, are bounded.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

import httpx2
import idna
from standardwebhooks import Webhook

from aidevos.contracts.errors import Failure
from aidevos.settings import Network

SECRET_PREFIX = "whsec_"  # noqa: S105
SECRET_BYTES = 32
# Seconds for one delivery in all, and bytes that are read of its answer.
TIMEOUT = 15.0
ANSWER_LIMIT = 16 * 1024
LOOK_UP_WITHIN = 3.0
# Names that are looked up at once.
LOOK_UPS = 64
# Addresses of one name that are tried.
ADDRESSES = 4
# Of what Python takes for public: special uses (RFC 6890), among them Oracle's metadata, and Azure's WireServer.
_INNER = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "fec0::/10")))
# Of IPv6, what leads to the IPv4 address in its last 32 bits (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class WebhookResponse(NamedTuple):
    """What the receiver has said: the status, and the first `ANSWER_LIMIT` bytes of the body."""

    status: int
    body: bytes

    @property
    def accepted(self) -> bool:
        return 200 <= self.status <= 299


def new_secret() -> str:
    """A secret as receivers are given it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(id: str, at: float, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers of a message that was sent at this time: signed with each of the secrets, so that receivers
    may take their time to change from one to the next. `id` is the same for every attempt."""
    moment = datetime.fromtimestamp(int(at), UTC)
    signatures = [Webhook(secret).sign(id, moment, body.decode()) for secret in secrets]
    return {"webhook-id": id, "webhook-timestamp": str(int(at)), "webhook-signature": " ".join(signatures)}


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet; one that carries another is what that is."""
    if isinstance(address, IPv6Address):
        carried = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped
        if carried is not None:
            return is_public(carried)
        if address.sixtofour is not None or address.teredo is not None:
            return False
    special = address.is_multicast or address.is_reserved or any(address in network for network in _INNER)
    return address.is_global and not special


class LookUps:
    """Looks names up. One whose server says nothing holds a thread for as long as the system is patient, however
    many ask for it meanwhile, and none of those that the process has for all else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UPS, "look-up")
        self._under_way: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name, the best first; raises `OSError`."""
        name = host, port
        if name not in self._under_way:
            looking = asyncio.get_running_loop().run_in_executor(self._threads, _addresses_of, host, port)
            self._under_way[name] = looking
            looking.add_done_callback(partial(self._ended, name))
        return await asyncio.shield(self._under_way[name])

    def _ended(self, name: tuple[str, int], looking: asyncio.Future[Sequence[str]]) -> None:
        del self._under_way[name]
        # Whoever has asked may be gone.
        looking.exception()


def _addresses_of(host: str, port: int) -> Sequence[str]:
    return [str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class WebhookSender:
    """Sends webhooks; `allowed` are networks that it may reach though they aren't public."""

    def __init__(
        self, allowed: Sequence[Network] = (), *, timeout: float = TIMEOUT, resolve: Resolve | None = None
    ) -> None:
        self._allowed = allowed
        self._timeout = timeout
        self._resolve = resolve or LookUps().resolve

    async def check(self, url: str) -> None:
        """Raises `invalid` for a URL that can't be used, and for one that leads to no address that may be reached
        now; one whose name nobody knows yet is judged when something is sent there."""
        target = _parse(url)
        try:
            async with asyncio.timeout(LOOK_UP_WITHIN):
                await self._addresses(target)
        except (OSError, UnicodeError):
            return
        except Failure as failure:
            raise Failure("invalid", failure.detail, field="url") from None

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
        """POST a JSON body. Raises `invalid` for a URL that can't be used, `forbidden` for one that leads to no
        address that may be reached, and `unavailable` where nobody answers in time."""
        target = _parse(url)
        try:
            async with asyncio.timeout(self._timeout):
                addresses = await self._addresses(target)
                return await self._post(target, addresses, body, headers)
        except (TimeoutError, httpx2.TimeoutException):
            raise Failure("unavailable", f"{target.host} has not answered within {self._timeout:g} seconds") from None
        except (httpx2.HTTPError, OSError, UnicodeError) as error:
            raise Failure("unavailable", f"{target.host} can't be reached: {_said(error)}") from None

    async def _addresses(self, target: httpx2.URL) -> list[Address]:
        found = await self._resolve(target.raw_host.decode(), _port(target))
        # A link-local address of IPv6 may name its interface.
        addresses = [ip_address(text.partition("%")[0]) for text in dict.fromkeys(found)]
        usable = [address for address in addresses if self._may_reach(address)]
        if not usable:
            raise Failure(
                "forbidden",
                f"{target.host} leads to no public address; AIDEVOS_WEBHOOK_NETWORKS lists others that are allowed",
            )
        return usable[:ADDRESSES]

    def _may_reach(self, address: Address) -> bool:
        inside = (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
        return is_public(address) or any(inside in network for network in self._allowed)

    async def _post(
        self, target: httpx2.URL, addresses: Sequence[Address], body: bytes, headers: Mapping[str, str]
    ) -> WebhookResponse:
        sent = {"content-type": "application/json", "user-agent": "aidevos-webhooks", **headers}
        sent["host"] = target.netloc.decode()
        # httpx2: the name that the certificate must have, of a connection that goes to an address.
        extensions = {"sni_hostname": target.raw_host.decode()}
        async with httpx2.AsyncClient(
            verify=_trusted(), trust_env=False, follow_redirects=False, timeout=self._timeout
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
            # What is packed could grow beyond every bound.
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) >= ANSWER_LIMIT:
                    break
            return WebhookResponse(response.status_code, bytes(received[:ANSWER_LIMIT]))


def _parse(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
        host, port = parsed.raw_host, parsed.port
        if host.startswith(b"xn--"):
            # httpx2 keeps a label of invalid Punycode as it is.
            idna.decode(host)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise Failure("invalid", f"the URL can't be used: {error}", field="url") from None
    if port is not None and not 0 < port <= 65535:
        raise Failure("invalid", "a port is a number from 1 to 65535", field="url")
    if parsed.scheme not in ("http", "https") or not host or parsed.userinfo:
        raise Failure("invalid", "a webhook goes to http:// or https:// and a host, without a password", field="url")
    return parsed


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
