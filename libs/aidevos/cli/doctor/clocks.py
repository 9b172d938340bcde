"""A check of the clocks: that of this machine, of the servers and of the hosts. Tokens and alarms depend on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import msgspec
from nats.aio.client import Client

from aidevos.cli.doctor.finding import Finding, Unreachable, error, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.contracts import subjects
from aidevos.contracts.authentication import CLOCK_MARGIN
from aidevos.contracts.fleet import HostInfo

# Seconds by which a clock may differ, beside the time of the question.
TOLERATED = 1.0
HOSTS_WITHIN = 1.0
# A moment on another clock, in seconds since the epoch.
Ask = Callable[[], Awaitable[float]]


async def check_clocks(patient: Patient) -> list[Finding]:
    """Find clocks that differ from this machine's."""
    skews: dict[str, float] = {}
    for place, ask in {"NATS": _nats_clock(patient), "MongoDB": _mongo_clock(patient)}.items():
        try:
            began, there, ended = time.time(), await ask(), time.time()
        except Unreachable:
            continue
        skews[place] = skew(began, there, ended)
    if "NATS" in skews:
        skews |= await _host_skews(await patient.nats())
    if not skews:
        raise Unreachable("neither NATS nor MongoDB can be reached")
    wrong = [judge(place, seconds) for place, seconds in sorted(skews.items()) if abs(seconds) > TOLERATED]
    return wrong or [ok("clocks", f"{len(skews)} clocks agree with this machine's")]


def skew(began: float, there: float, ended: float) -> float:
    """Return by how many seconds a clock is at least ahead of this machine's. It was asked from `began` to `ended`."""
    return there - ended if there > ended else min(0.0, there - began)


def judge(place: str, seconds: float) -> Finding:
    """Return what is to be said of a clock that differs too much."""
    detail = f"the clock of {place} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    advice = "let all machines follow a time server (chrony, systemd-timesyncd)"
    return (error if abs(seconds) > CLOCK_MARGIN else warning)("clocks", detail, advice)


def _nats_clock(patient: Patient) -> Ask:
    async def ask() -> float:
        connection = await patient.nats()
        reply = await connection.request(f"$JS.API.STREAM.INFO.KV_{subjects.HOSTS_BUCKET}", b"", timeout=3)
        return _seconds(msgspec.json.decode(reply.data)["ts"])

    return ask


def _mongo_clock(patient: Patient) -> Ask:
    async def ask() -> float:
        hello: dict[str, Any] = await patient.ask_mongo(lambda data: data.client.admin.command("hello"))
        return float(hello["localTime"].replace(tzinfo=UTC).timestamp())

    return ask


async def _host_skews(connection: Client) -> dict[str, float]:
    """Ask all hosts at once."""
    # Hosts may not answer to the administrator's own inboxes.
    inbox = f"_INBOX.{token_hex(8)}"
    answers = await connection.subscribe(inbox)
    began, skews = time.time(), dict[str, float]()
    await connection.publish(subjects.FLEET, reply=inbox)
    try:
        async with asyncio.timeout(HOSTS_WITHIN):
            while True:
                message = await answers.next_msg(timeout=HOSTS_WITHIN)
                host = msgspec.json.decode(message.data, type=HostInfo) if message.data else None
                if host is not None and host.now:
                    skews[f"{host.service}-{host.replica}"] = skew(began, _seconds(host.now), time.time())
    except TimeoutError:
        pass
    finally:
        await answers.unsubscribe()
    return skews


def _seconds(moment: str) -> float:
    """Return a time (RFC 3339), of which the server gives nine decimals, in seconds since the epoch."""
    return msgspec.json.decode(msgspec.json.encode(moment), type=datetime).timestamp()
