"""Passwords: the policy, and hashing (argon2id, RFC 9106) that doesn't stall other requests.

Promises: hashing runs in a few threads behind a bounded queue, so other requests keep their speed. Past
the bound, which is one for the cores of each process, callers get `overloaded`. A check without a hash takes as long as
one against a hash, so response times don't reveal which accounts exist. The C library keeps the memory of a hash for
the next one. It goes back to the system when no password has been hashed for a while.

While passwords wait for a thread, results are handed over in groups, so that the logins that go on share messages and
commits. A result waits for fewer others than there are passwords that wait.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from time import perf_counter
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from aidevos import heap
from aidevos.contracts.errors import Failure
from aidevos.settings import Settings

T = TypeVar("T")
LONGEST = 128
RETRY_AFTER = 1.0
# Seconds without a hash after which the memory is given back.
IDLE = 5.0
NICENESS = 10
# The most results that are handed over together.
GROUP = 8


class Passwords:
    """Hashes and verifies passwords with the settings' parameters.

    `on_refused` is called with each `overloaded`, and `on_waited` with what a caller has waited for, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        on_refused: Callable[[], None] = lambda: None,
        on_waited: Callable[[str, float], None] = lambda what, seconds: None,
    ) -> None:
        self._on_refused = on_refused
        self._on_waited = on_waited
        self._hasher = PasswordHasher(
            time_cost=settings.password_time,
            memory_cost=settings.password_memory,
            parallelism=settings.password_lanes,
        )
        self._at_once = settings.password_threads or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._at_once, "passwords", initializer=_yield_to_others)
        self._bound = self._at_once + settings.password_queue
        self._pending = 0
        # Those whose results wait for others.
        self._group: list[asyncio.Future[None]] = []
        self._release: asyncio.TimerHandle | None = None
        self._dummy = self._hasher.hash(secrets.token_urlsafe())

    @property
    def pending(self) -> int:
        """The number of passwords that are being hashed or wait for it."""
        return self._pending

    @property
    def _waiting(self) -> int:
        """The number of passwords that wait for a thread."""
        return self._pending - self._at_once

    async def hash(self, password: str) -> str:
        """Return the password's hash in PHC format. Raises `overloaded`."""
        return await self._run(lambda: self._hasher.hash(_normalize(password)))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """True if the password has this hash; False without a hash, after the same time. Raises `overloaded`."""
        matches = await self._run(lambda: self._matches(hashed or self._dummy, password))
        return matches and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """True if the hash was made with other parameters than the current ones."""
        return self._hasher.check_needs_rehash(hashed)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, _normalize(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= self._bound:
            self._on_refused()
            raise Failure("overloaded", "too many passwords are being checked", retry_after=RETRY_AFTER)
        self._pending += 1
        future = self._threads.submit(work)
        loop = asyncio.get_running_loop()
        # A caller that gives up doesn't free its slot, because its thread is still working.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        began = perf_counter()
        try:
            result = await asyncio.wrap_future(future)
        finally:
            self._on_waited("the hashing of a password", perf_counter() - began)
        await self._join_group()
        return result

    async def _join_group(self) -> None:
        """Return when the group of a result is complete."""
        if len(self._group) + 1 < GROUP and self._waiting > len(self._group) + 1:
            self._group.append(asyncio.get_running_loop().create_future())
            await self._group[-1]
        else:
            self._end_group()

    def _end_group(self) -> None:
        for member in self._group:
            if not member.done():
                member.set_result(None)
        self._group = []

    def _done(self) -> None:
        self._pending -= 1
        if self._waiting <= len(self._group):
            self._end_group()
        if self._release is not None:
            self._release.cancel()
        loop = asyncio.get_running_loop()
        self._release = loop.call_later(IDLE, loop.run_in_executor, None, heap.give_back)


def _yield_to_others() -> None:
    """Lower this thread's priority. On Linux, niceness applies to a single thread."""
    if sys.platform == "linux":
        os.nice(NICENESS)


def check_policy(password: str, shortest: int, own: tuple[str, ...], *, field: str = "password") -> None:
    """Raise `invalid` if a password is too short, too long, common, or one of the user's own names.

    NIST SP 800-63B-4 asks for a minimum length and a list of common passwords, without composition
    rules.
    """
    if not shortest <= len(_normalize(password)) <= LONGEST:
        raise Failure("invalid", f"a password must have {shortest} to {LONGEST} characters", field=field)
    folded = _normalize(password).casefold()
    if folded in {_normalize(name).casefold() for name in own}:
        raise Failure("invalid", "the password must not be your name or e-mail address", field=field)
    if f"\n{folded}\n" in _common_passwords():
        raise Failure("invalid", "this password is one of the most common ones", field=field)


@cache
def _common_passwords() -> str:
    """Return the 30,000 most common passwords in zxcvbn's list (see `common_passwords.LICENSE.txt`), one a line.

    A search of the text takes a tenth of a millisecond. A set would take 15 times the memory.
    """
    return "\n" + (files(__package__) / "common_passwords.txt").read_text() + "\n"


def _normalize(password: str) -> str:
    """Return one form for passwords that look the same, whatever keyboard they were typed on."""
    return unicodedata.normalize("NFKC", password)
