"""Pure rules of logins and sessions; nothing here waits for anything."""

from __future__ import annotations

import msgspec

from aidevos.contracts.authentication import Session
from aidevos.contracts.errors import Failure
from aidevos.contracts.times import rfc3339, timestamp

MAX_SESSIONS = 100


class SessionEntry(msgspec.Struct):
    """What an account knows of one of its sessions; times in seconds since the epoch."""

    device: str
    created_at: float
    last_used_at: float
    address: str = ""


def shown(id: str, entry: SessionEntry, current: str) -> Session:
    return Session(
        id=id,
        device=entry.device,
        address=entry.address,
        created_at=rfc3339(timestamp(entry.created_at)),
        last_used_at=rfc3339(timestamp(entry.last_used_at)),
        current=id == current,
    )


def superfluous(sessions: dict[str, SessionEntry], now: float, age: float) -> list[str]:
    """The sessions to end before another one begins: those unused for longer than `age` seconds, and
    the longest unused past the bound."""
    by_use = sorted(sessions, key=lambda session: sessions[session].last_used_at)
    excess = max(0, len(by_use) - MAX_SESSIONS + 1)
    expired = [session for session in by_use[excess:] if sessions[session].last_used_at + age <= now]
    return by_use[:excess] + expired


def wrong_login() -> Failure:
    """The one answer to whoever can't log in: unknown, deactivated, or with a wrong password."""
    return Failure("unauthenticated", "the username or the password is wrong")


def wrong_token() -> Failure:
    return Failure("unauthenticated", "the refresh token is not valid")
