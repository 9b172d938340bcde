"""Limits of attempts in a window, per account or per address.

A `Throttle` counts in a list that its owner keeps: an account's object stores it with its state. The attempts of an
address reach many hosts, so the `quota` object that also limits the address's anonymous requests counts them, in
memory: storing each attempt of each address would let strangers cause writes.

Promise: all hosts together admit no more attempts of an address in any window than the limit. A crash or a handoff of
the quota forgives one window, and so does a pause of `AIDEVOS_IDLE_AFTER` without an attempt; but each host remembers
the attempts that it has admitted itself. While quotas are unreachable, each host admits its share of the limit. A
throttle whose clock is set back goes on as if no time had passed since its last attempt.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from aidevos.contracts.errors import Failure
from aidevos.contracts.rate_limits import QUOTA_TYPE, address_quota

log = logging.getLogger(__name__)
# Addresses that a host remembers; beyond this, the least recently used one is forgotten.
MAX_KEYS = 20_000
# The size of the IPv6 network that a household or server usually has.
IPV6_PREFIX = 64
# Seconds that an attempt waits for its quota, and until quotas that didn't answer are asked again.
ASK_WITHIN = 1.0
ASK_AGAIN_AFTER = 1.0


class Throttle:
    """A limit of `limit` attempts in any `window` seconds.

    `attempts` holds the times of the last ones, at most `limit` of them. The throttle changes this list.
    """

    def __init__(self, limit: int, window: float, what: str, attempts: list[float]) -> None:
        self._limit = limit
        self._window = window
        self._what = what
        self._attempts = attempts

    def check(self, now: float, share: int | None = None) -> None:
        """Raise `rate-limited` while the limit, or the lower `share` of it, is reached."""
        left = self.wait(now, share)
        if left > 0:
            raise too_many(self._what, left)

    def wait(self, now: float, share: int | None = None) -> float:
        """Return the seconds until the next attempt is below the limit, or below the lower `share`; 0 if it is now."""
        self._follow(now)
        limit = share or self._limit
        is_full = len(self._attempts) >= limit
        return max(0.0, self._attempts[-limit] + self._window - now) if is_full else 0.0

    def count(self, now: float) -> None:
        self._follow(now)
        self._attempts.append(now)
        del self._attempts[: -self._limit]

    def _follow(self, now: float) -> None:
        """Move the attempts with a clock that was set back."""
        if self._attempts and (ahead := self._attempts[-1] - now) > 0:
            self._attempts[:] = [moment - ahead for moment in self._attempts]


class AddressThrottle:
    """A limit of attempts for each client address, in the whole fleet.

    `share` returns this host's share of a limit. Callers over NATS have no address and share one limit. An IPv6 network
    of /64 counts as one address.
    """

    def __init__(self, limit: int, window: float, what: str, share: Callable[[int], int]) -> None:
        self._limit = limit
        self._window = window
        self._what = f"{what} from this address"
        self._kind = what
        self._share = share
        self._known: OrderedDict[str, _Address] = OrderedDict()
        self._ask_from = -math.inf

    async def admit(self, address: str, now: float, call: Callable[..., Awaitable[Any]]) -> None:
        """Count an attempt. Raises `rate-limited` for an attempt over the limit, which isn't counted.

        `call` is that of the object that got the attempt.
        """
        network = network_of(address)
        known = self._recall(network)
        # A longer time is that of a clock that was set back.
        if 0 < known.closed_until - now <= self._window:
            raise too_many(self._what, known.closed_until - now)
        known.throttle.check(now)
        wait = await self._ask(network, now, call)
        if wait is None:
            known.throttle.check(now, self._share(self._limit))
        elif wait > 0:
            known.closed_until = now + wait
            raise too_many(self._what, wait)
        known.throttle.count(now)

    async def _ask(self, network: str, now: float, call: Callable[..., Awaitable[Any]]) -> float | None:
        """Return the seconds until the next attempt, 0 if this one was counted, or None if the quota is unreachable."""
        if 0 < self._ask_from - now <= ASK_AGAIN_AFTER:
            return None
        quota = address_quota(network)
        arguments = {"kind": self._kind, "limit": self._limit, "window": self._window}
        try:
            async with asyncio.timeout(ASK_WITHIN):
                wait: float = await call(QUOTA_TYPE, quota, "attempt", **arguments)
        except (Failure, TimeoutError) as error:
            log.warning("quotas are unreachable, this host admits its share of %s: %s", self._what, error)
            self._ask_from = now + ASK_AGAIN_AFTER
            return None
        return wait

    def _recall(self, network: str) -> _Address:
        known = self._known.get(network)
        if known is None:
            known = self._known[network] = _Address(Throttle(self._limit, self._window, self._what, []))
            if len(self._known) > MAX_KEYS:
                self._known.popitem(last=False)
        self._known.move_to_end(network)
        return known


class _Address:
    """The attempts of one address that this host has admitted, and the time until which the quota admits no more."""

    __slots__ = ("closed_until", "throttle")

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle
        self.closed_until = -math.inf


def too_many(what: str, wait: float) -> Failure:
    """Return the error for an attempt over a limit, of which the next may follow in `wait` seconds."""
    return Failure("rate-limited", f"too many {what}", retry_after=math.ceil(wait))


def network_of(address: str) -> str:
    """Return the address, or for IPv6 its network, that an address is counted under."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], IPV6_PREFIX), strict=False))
