"""Limits of attempts in a window, per account or per address.

They live in the memory of the one process that owns the objects, so they hold for the whole fleet. A
crash forgives one window; storing each attempt would let strangers cause writes.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict, deque

from aidevos.contracts.errors import Failure

# Keys that are remembered; beyond this, the least recently used one is forgotten.
MAX_KEYS = 20_000
# The size of the IPv6 network that a household or server usually has.
IPV6_PREFIX = 64


class Throttle:
    """A limit of `limit` attempts in any `window` seconds."""

    def __init__(self, limit: int, window: float, what: str) -> None:
        self._window = window
        self._what = what
        self._attempts: deque[float] = deque(maxlen=limit)

    def check(self, now: float) -> None:
        """Raise `rate-limited` while the limit is reached."""
        full = len(self._attempts) == self._attempts.maxlen
        left = self._attempts[0] + self._window - now if full else 0.0
        if left > 0:
            raise Failure("rate-limited", f"too many {self._what}", retry_after=math.ceil(left))

    def count(self, now: float) -> None:
        self._attempts.append(now)

    def clear(self) -> None:
        self._attempts.clear()


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
            throttle = self._throttles[key] = Throttle(self._limit, self._window, self._what)
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
