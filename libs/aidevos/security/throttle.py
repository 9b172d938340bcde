"""Limits of attempts in a window, per account or per address.

A `Throttle` counts in a list that its owner keeps: an account's object stores it with its state. Those of
`Throttles` live in the memory of the one process that owns the objects, so they hold for the whole fleet,
and a crash forgives one window. Storing each attempt of each address would let strangers cause writes.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict

from aidevos.contracts.errors import Failure

# Keys that are remembered; beyond this, the least recently used one is forgotten.
MAX_KEYS = 20_000
# The size of the IPv6 network that a household or server usually has.
IPV6_PREFIX = 64


class Throttle:
    """A limit of `limit` attempts in any `window` seconds.

    `attempts` holds the times of the last ones, at most `limit` of them. The throttle changes this list.
    """

    def __init__(self, limit: int, window: float, what: str, attempts: list[float]) -> None:
        self._limit = limit
        self._window = window
        self._what = what
        self._attempts = attempts

    def check(self, now: float) -> None:
        """Raise `rate-limited` while the limit is reached."""
        is_full = len(self._attempts) >= self._limit
        left = self._attempts[-self._limit] + self._window - now if is_full else 0.0
        if left > 0:
            raise Failure("rate-limited", f"too many {self._what}", retry_after=math.ceil(left))

    def count(self, now: float) -> None:
        self._attempts.append(now)
        del self._attempts[: -self._limit]


class Throttles:
    """A throttle for each key, which outlives the object that uses it."""

    def __init__(self, limit: int, window: float, what: str) -> None:
        self._limit = limit
        self._window = window
        self._what = what
        self._throttles: OrderedDict[str, Throttle] = OrderedDict()

    def get(self, key: str) -> Throttle:
        throttle = self._throttles.get(key)
        if throttle is None:
            throttle = self._throttles[key] = Throttle(self._limit, self._window, self._what, [])
            if len(self._throttles) > MAX_KEYS:
                self._throttles.popitem(last=False)
        self._throttles.move_to_end(key)
        return throttle


class AddressThrottle(Throttles):
    """A throttle for each client address.

    Callers over NATS have no address and share one throttle. An IPv6 network of /64 counts as one
    address.
    """

    def __init__(self, limit: int, window: float, what: str) -> None:
        super().__init__(limit, window, f"{what} from this address")

    def admit(self, address: str, now: float) -> None:
        """Count an attempt. Raises `rate-limited` for an attempt over the limit, which isn't counted."""
        throttle = self.get(network_of(address))
        throttle.check(now)
        throttle.count(now)


def network_of(address: str) -> str:
    """Return the address, or for IPv6 its network, that an address is counted under."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], IPV6_PREFIX), strict=False))
