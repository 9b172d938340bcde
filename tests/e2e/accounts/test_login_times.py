"""Timing measurements of logins, on services that hash passwords as in production."""

from __future__ import annotations

import math
import random
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from tests.support.http import http_client
from tests.support.logins import PASSWORD, Person, register
from tests.support.programs import STRONG_PASSWORDS
from tests.support.world import ACCOUNTS, World, Worlds

ROUNDS = 20
# The allowed difference besides noise; measurements over a network can't resolve less.
SYSTEMATIC = 0.1


@pytest.fixture(scope="module")
def world(worlds: Worlds) -> Iterator[World]:
    settings = {"AIDEVOS_LOGIN_FAILURES": "10000", STRONG_PASSWORDS: "1"}
    with worlds.alone(services=ACCOUNTS, **settings) as world:
        yield world


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(base_url=world.url, timeout=60) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"ada{secrets.token_hex(6)}"


def noise(times: list[float]) -> float:
    """Return the standard error of the median, from the median deviation, which outliers don't move."""
    middle = statistics.median(times)
    deviation = 1.4826 * statistics.median(abs(each - middle) for each in times)
    return 1.2533 * deviation / math.sqrt(len(times))


async def test_time_does_not_tell_wrong_unknown_and_deactivated_apart(
    world: World, http: httpx2.AsyncClient, name: str
) -> None:
    await register(http, Person(name, f"{name}@example.org"))
    gone = (await register(http, Person(f"{name}gone", f"{name}gone@example.org"))).json()["id"]
    ended = await http.post(f"/users/{gone}/deactivate", headers={"Authorization": world.admin})
    assert ended.status_code == 200, ended.text
    kinds = {
        "wrong": (name, "not the password"),
        "unknown": (f"{name}nobody", PASSWORD),
        "unknown address": (f"{name}@nowhere.example", PASSWORD),
        "wrong by address": (f"{name}@example.org", "not the password"),
        "deactivated": (f"{name}gone", PASSWORD),
        "deactivated and wrong": (f"{name}gone", "not the password"),
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers = set()
    for _ in range(ROUNDS):
        for kind in random.sample(list(kinds), len(kinds)):
            username, password = kinds[kind]
            began = time.perf_counter()
            answer = await http.post("/auth/login", json={"username": username, "password": password})
            took[kind].append(time.perf_counter() - began)
            answers.add((answer.status_code, answer.text))

    assert len(answers) == 1
    assert answers.pop()[0] == 401
    for one, other in (
        ("wrong", "unknown"),
        ("wrong", "deactivated"),
        ("wrong", "deactivated and wrong"),
        ("wrong by address", "unknown address"),
    ):
        ours, theirs = statistics.median(took[one]), statistics.median(took[other])
        tolerance = SYSTEMATIC * ours + 4 * math.hypot(noise(took[one]), noise(took[other]))
        assert abs(ours - theirs) < tolerance, f"{one} {ours:.4f} s, {other} {theirs:.4f} s ± {tolerance:.4f} s"
