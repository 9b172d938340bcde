"""Outgoing webhooks: signed so that the standard's own library accepts them, and only to public addresses."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook, WebhookVerificationError

from aidevos.contracts.errors import Failure
from aidevos.feeds import webhook_sender as webhooks
from aidevos.feeds.webhook_sender import Resolver, WebhookResponse, WebhookSender, is_public
from aidevos.feeds.webhook_signatures import new_secret, sign_headers
from aidevos.settings import SettingsError, load, networks

LOOPBACK = networks("127.0.0.0/8, ::1/128")
BODY = json.dumps({"type": "order.paid", "data": {"name": "Grüße"}}).encode()
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver:
    """A server that keeps the requests it gets, and answers with `reply`."""

    def __init__(self) -> None:
        self.reply = OK
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if b"content-length" in line)
        self.requests.append(head + await reader.readexactly(length))
        writer.write(self.reply)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, **options)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def sender(*answers: Sequence[str], allowed: Any = LOOPBACK, timeout: float = 5.0) -> WebhookSender:
    """Return a sender whose name look-ups give these addresses, one answer per look-up."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0)

    return (
        WebhookSender(allowed, timeout=timeout, resolve=resolve) if answers else WebhookSender(allowed, timeout=timeout)
    )


async def failure(sending: Awaitable[WebhookResponse]) -> Failure:
    with pytest.raises(Failure) as caught:
        await sending
    return caught.value


def test_the_standards_own_library_accepts_the_signature() -> None:
    secret = new_secret()
    signed = sign_headers("msg_1", time.time(), BODY, [secret])
    assert Webhook(secret).verify(BODY, signed) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, signed)


def test_the_signature_is_that_of_the_standards_example() -> None:
    """The vector of the reference libraries at github.com/standard-webhooks/standard-webhooks."""
    secret, at = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330
    signed = sign_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}', [secret])
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_secrets_change_the_old_one_and_the_new_one_are_good() -> None:
    old, new = new_secret(), new_secret()
    signed = sign_headers("msg_1", time.time(), BODY, [new, old])
    for secret in (old, new):
        Webhook(secret).verify(BODY, signed)


async def test_a_message_arrives_as_it_was_signed() -> None:
    secret = new_secret()
    async with receiving() as receiver:
        url = f"http://hooks.example.org:{receiver.port}/in?x=1"
        answer = await sender(["127.0.0.1"]).send(url, BODY, sign_headers("msg_1", time.time(), BODY, [secret]))
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    got = dict(line.lower().split(": ", 1) for line in lines[1:] if not line.lower().startswith("webhook-signature"))
    assert (answer.status, answer.accepted) == (204, True)
    assert lines[0] == "POST /in?x=1 HTTP/1.1"
    assert (got["host"], got["content-type"]) == (f"hooks.example.org:{receiver.port}", "application/json")
    Webhook(secret).verify(body, dict(line.split(": ", 1) for line in lines[1:]))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("192.0.2.1", "168.63.129.16", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1"),
        *("2001:0:1::1", "2001:db8::1", "3fff::1", "3fff:fff:ffff::1", "::ffff:168.63.129.16"),
    ],
)
async def test_no_private_address_is_reached(address: str) -> None:
    assert not is_public(ip_address(address))
    refused = await failure(sender([address], allowed=()).send("https://hooks.example.org/", BODY, {}))
    assert (refused.code, refused.retryable) == ("unavailable", True)


async def test_a_name_of_the_internal_network_is_reported_like_one_that_does_not_exist() -> None:
    async def fail(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("not known")

    url = "https://wiki.example.org/"
    internal, unknown = sender(["10.0.0.1"], allowed=()), WebhookSender(resolve=fail)
    refused = [await failure(each.send(url, BODY, {})) for each in (internal, unknown)]
    assert refused[0].encode() == refused[1].encode()
    for each in (internal, unknown):
        each.check(url)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "3fff:1000::1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "0", "localhost"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "①②⑦.0.0.1", "127。0。0。1"),
    ],
)
async def test_no_spelling_of_loopback_is_reached(host: str) -> None:
    async with receiving() as receiver:
        url = f"http://{host}:{receiver.port}/"
        refused = await failure(sender(allowed=()).send(url, BODY, {}))
        assert receiver.requests == []
    if host == "localhost":
        assert refused.code == "unavailable"
    else:
        assert refused.code in ("forbidden", "invalid")
        with pytest.raises(Failure) as invalid:
            sender(allowed=()).check(url)
        assert (invalid.value.code, invalid.value.field) == ("invalid", "url")


async def test_a_name_is_looked_up_once_and_what_was_judged_is_connected_to() -> None:
    """A second look-up would give another address, and the system's own would give none."""
    async with receiving() as receiver:
        rebinding = sender(["127.0.0.1"], ["127.0.0.2"])
        answer = await rebinding.send(f"http://rebound.invalid:{receiver.port}/", BODY, {})
    assert answer.status == 204
    assert len(receiver.requests) == 1


async def test_of_several_addresses_only_those_are_tried_that_may_be_reached() -> None:
    async with receiving() as receiver:
        mixed = sender(["127.0.0.1", "127.9.9.9"], allowed=networks("127.9.9.9"), timeout=2.0)
        assert (await failure(mixed.send(f"http://mixed.invalid:{receiver.port}/", BODY, {}))).code == "unavailable"
        assert receiver.requests == []


async def test_the_next_address_is_tried_where_nobody_listens() -> None:
    async with receiving() as receiver:
        several = sender(["127.0.0.9", "127.0.0.1"])
        assert (await several.send(f"http://several.invalid:{receiver.port}/", BODY, {})).status == 204


async def test_no_redirect_is_followed() -> None:
    async with receiving() as inner, receiving() as receiver:
        receiver.reply = f"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{inner.port}/\r\n\r\n".encode()
        answer = await sender(["127.0.0.1"]).send(f"http://hooks.invalid:{receiver.port}/", BODY, {})
        assert (answer.status, answer.accepted, inner.requests) == (307, False, [])


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        await sender(["127.0.0.1"]).send(f"http://hooks.invalid:{receiver.port}/", BODY, {})
        assert proxy.requests == []


async def test_an_answer_is_read_up_to_a_bound() -> None:
    async with receiving() as receiver:
        receiver.reply = b"HTTP/1.1 500 No\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000
        answer = await sender(["127.0.0.1"]).send(f"http://hooks.invalid:{receiver.port}/", BODY, {})
    assert (answer.status, answer.accepted, len(answer.body)) == (500, False, webhooks.ANSWER_LIMIT)


async def test_a_receiver_that_trickles_is_given_up_in_time() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    slow = sender(["127.0.0.1"], timeout=0.5)
    refused = await asyncio.wait_for(failure(slow.send(f"http://slow.invalid:{port}/", BODY, {})), 5)
    server.close()
    assert (refused.code, refused.retryable) == ("unavailable", True)


async def test_a_name_that_nobody_has_and_a_port_where_nobody_listens_may_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    for sending in (
        sender(["127.0.0.1"]).send(f"http://hooks.invalid:{port}/", BODY, {}),
        WebhookSender().send("http://nobody.invalid/", BODY, {}),
    ):
        assert (await failure(sending)).code == "unavailable"


async def test_names_whose_servers_say_nothing_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    released, look_up = threading.Event(), socket.getaddrinfo

    def answer(host: str, *args: Any, **options: Any) -> Any:
        if host.startswith("silent"):
            released.wait(20)
        return look_up("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    look_ups = Resolver()
    silent = [*("silent.invalid",) * 200, *(f"silent{number}.invalid" for number in range(40))]
    waiting = [asyncio.ensure_future(look_ups.resolve(name, 443)) for name in silent]
    await asyncio.sleep(0)
    waiting[0].cancel()
    try:
        assert await asyncio.wait_for(look_ups.resolve("quick.invalid", 443), 5) == ["127.0.0.1"]
    finally:
        released.set()
    found = await asyncio.gather(*waiting[1:])
    assert found == [["127.0.0.1"]] * (len(silent) - 1)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/", "http:///x", "https://ada:secret@example.org/", "x", "http://[::1"),
        *("http://xn--/", "http://8.8.8.8:65536/", "http://8.8.8.8:0/", "http://8.8.8.8:-1/"),
    ],
)
async def test_only_plain_http_urls_are_taken(url: str) -> None:
    assert (await failure(WebhookSender().send(url, BODY, {}))).code == "invalid"
    with pytest.raises(Failure) as refused:
        WebhookSender().check(url)
    assert refused.value.code == "invalid"


async def test_over_tls_the_certificate_must_be_that_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, trusted = certificate(tmp_path, "hooks.example.org")
    monkeypatch.setattr(webhooks, "_ssl_context", lambda: trusted)
    async with receiving(ssl=server) as receiver:
        good = await sender(["127.0.0.1"]).send(f"https://hooks.example.org:{receiver.port}/", BODY, {})
        other = await failure(sender(["127.0.0.1"]).send(f"https://other.example.org:{receiver.port}/", BODY, {}))
    assert good.status == 204
    assert other.code == "unavailable"


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS contexts for a server and for a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())
    return server, client


def test_the_setting_takes_networks_only() -> None:
    assert load({"AIDEVOS_WEBHOOK_NETWORKS": "10.0.0.0/8, ::1"}).webhook_networks == "10.0.0.0/8, ::1"
    with pytest.raises(SettingsError, match="AIDEVOS_WEBHOOK_NETWORKS"):
        load({"AIDEVOS_WEBHOOK_NETWORKS": "10.0.0.1/8"})
