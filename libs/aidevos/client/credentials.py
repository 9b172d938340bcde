"""The credential of a request: a token that stays the same, or one that comes from a source."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from aidevos.contracts import envelope

# The name that the client gives itself: its `User-Agent`, its NATS connection, and the device of its logins.
AGENT = "aidevos-python"
API_KEY = "adk_"
TokenSource = Callable[[], Awaitable[str]]


@runtime_checkable
class Renewable(Protocol):
    """A source of tokens that can be told that the fleet has refused one."""

    def expire(self, token: str) -> None:
        """Never return this token again."""


async def find_token(source: str | TokenSource | None) -> str:
    """Return the token or API key to send, or an empty string."""
    return source or "" if source is None or isinstance(source, str) else await source()


def renew(source: str | TokenSource | None, token: str) -> bool:
    """Give up a token that was refused. Return False if there can't be another one."""
    if not (token and isinstance(source, Renewable)):
        return False
    source.expire(token)
    return True


def authorization(token: str) -> dict[str, str]:
    """Return the header that carries a token or an API key."""
    if not token:
        return {}
    return {envelope.AUTHORIZATION: f"{'ApiKey' if token.startswith(API_KEY) else 'Bearer'} {token}"}
