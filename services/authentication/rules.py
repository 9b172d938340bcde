"""Pure rules of logins and sessions. Nothing here does I/O."""

from __future__ import annotations

import msgspec

from aidevos.contracts.authentication import Session
from aidevos.contracts.errors import Failure
from aidevos.contracts.times import rfc3339, timestamp

MAX_SESSIONS = 100


class SessionEntry(msgspec.Struct):
    """An account's record of one of its sessions; times are in seconds since the epoch."""

    device: str
    created_at: float
    last_used_at: float
    address: str = ""


def show_session(id: str, entry: SessionEntry, current: str) -> Session:
    """Return the session as callers see it; `current` is the ID of the caller's session."""
    return Session(
        id=id,
        device=entry.device,
        address=entry.address,
        created_at=rfc3339(timestamp(entry.created_at)),
        last_used_at=rfc3339(timestamp(entry.last_used_at)),
        current=id == current,
    )


def find_surplus_sessions(sessions: dict[str, SessionEntry], now: float, age: float) -> list[str]:
    """Return the sessions to end before another one begins.

    These are all sessions unused for `age` seconds, and the least recently used ones beyond `MAX_SESSIONS`.
    """
    by_use = sorted(sessions, key=lambda session: sessions[session].last_used_at)
    excess = max(0, len(by_use) - MAX_SESSIONS + 1)
    expired = [session for session in by_use[excess:] if sessions[session].last_used_at + age <= now]
    return by_use[:excess] + expired


def wrong_login() -> Failure:
    """Return the one answer to an unknown name, a deactivated user and a wrong password."""
    return Failure("unauthenticated", "the username or the password is wrong")


def wrong_token() -> Failure:
    return Failure("unauthenticated", "the refresh token is not valid; log in again")
