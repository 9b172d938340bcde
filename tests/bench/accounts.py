"""Measures accounts: logins against bare hashing, other requests during logins, and token checks."""

from __future__ import annotations

import httpx2
import msgspec

from aidevos.settings import load
from tests.bench.cases import Stage, http_order, post
from tests.bench.comparison import Comparison
from tests.bench.load import Order

ACCOUNTS = 32
PASSWORD = "wheelbarrow at noon"
LOGINS_IN_FLIGHT = 32
READS_IN_FLIGHT = 4


def prepare(stage: Stage) -> str:
    """Create the accounts, and return an access token of one of them."""
    with httpx2.Client(base_url=stage.world.url, timeout=30) as client:
        for name in _names():
            person = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
            client.post("/auth/register", json=person).raise_for_status()
        pair = client.post("/auth/login", json={"username": _names()[0], "password": PASSWORD})
        return str(pair.raise_for_status().json()["access_token"])


def comparisons(stage: Stage, seconds: float, token: str) -> list[Comparison]:
    bodies = [msgspec.json.encode({"username": name, "password": PASSWORD}) for name in _names()]
    logins = http_order(stage.world.url, [post("/auth/login", body) for body in bodies], LOGINS_IN_FLIGHT, seconds)
    head = f"GET /users/me HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
    reads = http_order(stage.world.url, [head.encode()], READS_IN_FLIGHT, seconds)
    settings = load({})
    hashing = Order(
        kind="argon2",
        in_flight=1,
        seconds=seconds,
        argon2=(settings.password_time, settings.password_memory, settings.password_lanes),
    )
    home = str(stage.world.servers.home)
    cached, fresh = (
        Order(kind="verify", in_flight=1, seconds=seconds, home=home, fresh=fresh) for fresh in (False, True)
    )
    return [
        Comparison("logins", logins, "argon2 alone", hashing, at_least=0.85),
        Comparison("GET /users/me during logins", reads, "without", reads, during=logins, of="p99", at_most=5.0),
        Comparison("token check, cached", cached, "uncached", fresh),
    ]


def _names() -> list[str]:
    return [f"bench{number}" for number in range(ACCOUNTS)]
