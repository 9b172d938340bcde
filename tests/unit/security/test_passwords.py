"""Passwords: the policy, the hashes, and the limit on concurrent hashing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psutil
import pytest

from aidevos.contracts.errors import Failure
from aidevos.security.passwords import Passwords, check_policy
from aidevos.settings import Settings, SettingsError, load
from tests.support.kits import failure


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(Settings(password_threads=1, password_queue=64))
    yield made
    made.close()


async def test_a_password_matches_its_own_hash_alone(passwords: Passwords) -> None:
    hashed = await passwords.hash("wheelbarrow at noon")

    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(hashed, "wheelbarrow at noon")
    assert not await passwords.verify(hashed, "wheelbarrow at moon")
    assert not await passwords.verify("no hash at all", "wheelbarrow at noon")
    assert not await passwords.verify(None, "wheelbarrow at noon")


async def test_one_password_typed_in_two_ways_is_one(passwords: Passwords) -> None:
    hashed = await passwords.hash("Blumenstr\u0061\u0308u\u00dfe 7")

    assert await passwords.verify(hashed, "Blumenstr\u00e4u\u00dfe 7")


async def test_a_hash_is_outdated_when_parameters_rise(passwords: Passwords) -> None:
    hashed = await passwords.hash("wheelbarrow at noon")

    assert not passwords.is_outdated(hashed)
    assert Passwords(Settings(password_time=3)).is_outdated(hashed)


async def test_past_the_bound_callers_are_told_to_come_again(passwords: Passwords) -> None:
    under_way = [asyncio.create_task(passwords.hash("x")) for _ in range(65)]
    await asyncio.sleep(0)

    refused = await failure(passwords.hash("x"))
    under_way[-1].cancel()
    await asyncio.gather(*under_way, return_exceptions=True)

    assert (refused.code, refused.status, refused.retry_after) == ("overloaded", 503, 1.0)
    assert await passwords.hash("x")


async def test_the_loop_goes_on_while_passwords_are_hashed(passwords: Passwords) -> None:
    hashing = asyncio.gather(*(passwords.hash("x") for _ in range(10)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1

    # Hashing on the event loop would allow only one turn per hash.
    assert turns > 30


async def test_results_come_in_groups_while_passwords_wait(passwords: Passwords) -> None:
    left: list[int] = []

    async def check() -> None:
        await passwords.hash("x")
        left.append(passwords.pending)

    await asyncio.gather(*(check() for _ in range(24)))

    # Two groups of eight and smaller ones at the end. At each, another hash may have ended just then.
    assert len(set(left)) <= 12


async def test_a_result_waits_for_fewer_passwords_than_there_are_behind_it(passwords: Passwords) -> None:
    first, *_ = [asyncio.create_task(passwords.hash("x")) for _ in range(3)]

    await first

    # The first leaves one that is hashed and one that waits, for which it doesn't wait.
    assert passwords.pending == 2


async def test_a_caller_that_gives_up_in_a_group_holds_up_no_other(passwords: Passwords) -> None:
    under_way = [asyncio.create_task(passwords.hash("x")) for _ in range(12)]
    async with asyncio.timeout(10):
        while not passwords._group:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    under_way[0].cancel()
    async with asyncio.timeout(30):
        results = await asyncio.gather(*under_way, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, str) for result in results[1:])


@pytest.mark.parametrize(
    "password",
    [
        "elevenchars",
        "x" * 129,
        "1qaz2wsx3edc",
        "SonyEricsson",
        "ada.lovelace@example.org",
        "ADA.LOVELACE@example.org",
        "Ada Lovelace of Ockham",
    ],
)
def test_short_long_common_and_own_names_are_refused(password: str) -> None:
    with pytest.raises(Failure) as refused:
        check_policy(password, 12, ("ada.lovelace@example.org", "Ada Lovelace of Ockham"))

    assert (refused.value.code, refused.value.field) == ("invalid", "password")
    assert password not in refused.value.detail


async def test_the_memory_of_hashing_is_given_back_when_there_are_no_more_passwords(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aidevos.security.passwords.IDLE", 1.0)
    await asyncio.gather(*(passwords.hash("x") for _ in range(2)))
    kept = _memory()

    async with asyncio.timeout(10):
        while _memory() > kept - 15:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def _memory() -> int:
    """Return the megabytes of memory that this process has."""
    return psutil.Process().memory_info().rss // 1_000_000


@pytest.mark.parametrize("password", ["aaaaaaaaaaab", "x" * 128, "Пароль из слов", "no digit, no Capital"])
def test_there_are_no_rules_of_composition(password: str) -> None:
    check_policy(password, 12, ("ada",))


@pytest.mark.parametrize(
    ("name", "value"),
    [("MEMORY", "19455"), ("TIME", "1"), ("QUEUE", "63"), ("MIN_LENGTH", "7")],
)
def test_settings_below_the_floor_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"AIDEVOS_PASSWORD_{name}"):
        load({f"AIDEVOS_PASSWORD_{name}": value})
