"""The session of a client: when its access token is renewed, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aidevos.client.auth import Auth, SessionTokens
from aidevos.contracts.authentication import TokenPair
from aidevos.contracts.users import User
from tests.support.kits import begun

USER = User(
    id="u1",
    username="ada",
    email=None,
    full_name="",
    roles=["user"],
    status="active",
    email_verified=False,
    settings={},
    version=1,
    created_at="",
    updated_at="",
)


def pair(number: int, expires_in: int = 900) -> TokenPair:
    return TokenPair(access_token=f"access-{number}", refresh_token=f"s.{number}", expires_in=expires_in, user=USER)


class Entry:
    """An entry point whose only operation gives the next pair of tokens."""

    def __init__(self, expires_in: int = 900) -> None:
        self.token: Any = None
        self.spent: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self._expires_in = expires_in

    async def perform(self, operation: Any, args: Any, **options: Any) -> Any:
        assert (operation.path, options["anonymous"]) == ("/auth/refresh", True)
        self.spent.append(args["refresh_token"])
        await self.answers.wait()
        return msgspec.to_builtins(pair(len(self.spent) + 1, self._expires_in))


def session(entry: Any, *, expires_in: int = 900) -> SessionTokens:
    Auth(entry).resume(pair(1, expires_in))
    found = entry.token
    assert isinstance(found, SessionTokens)
    return found


async def test_a_token_is_sent_until_it_is_about_to_expire() -> None:
    entry = Entry()

    assert [await session(entry)() for _ in range(2)] == ["access-1"] * 2
    assert entry.spent == []


async def test_a_token_that_is_about_to_expire_is_renewed_before_it_is_sent() -> None:
    entry = Entry()

    assert await session(entry, expires_in=0)() == "access-2"


async def test_requests_at_the_same_time_renew_a_refused_token_once() -> None:
    entry = Entry()
    tokens = session(entry)

    tokens.expire("access-1")
    sent = await asyncio.gather(*(tokens() for _ in range(5)))
    tokens.expire("access-1")

    assert sent == ["access-2"] * 5
    assert await tokens() == "access-2"
    assert entry.spent == ["s.1"]


async def test_a_cancelled_request_loses_no_new_pair() -> None:
    entry = Entry()
    tokens = session(entry, expires_in=0)
    entry.answers.clear()
    waiting = await begun(tokens())

    waiting.cancel()
    await asyncio.wait([waiting])
    entry.answers.set()

    assert waiting.cancelled()
    assert await tokens() == "access-2"
    assert entry.spent == ["s.1"]


async def test_each_new_pair_is_kept_before_it_is_used() -> None:
    entry: Any = Entry()
    auth, kept = Auth(entry), []
    auth.resume(pair(1))
    auth.keep = lambda renewed: kept.append(renewed.refresh_token)

    await auth.refresh()

    assert kept == ["s.2"]
    assert auth.session == pair(2)
