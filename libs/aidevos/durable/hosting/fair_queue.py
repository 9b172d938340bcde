"""A queue in which callers take turns, and for each caller the objects that it addresses (FQ-CoDel, RFC 8290 §4).

Promise: a request whose caller has nothing else waiting is taken in the next round of callers. One to an object for
which its caller has nothing else waiting is taken in the next but one turn of that caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class Arrival:
    """A request as it was read, at `arrived` seconds on the event loop's clock.

    In a queue, it belongs to its `caller` and to its `target`, and may wait until `refuse_at`.
    """

    __slots__ = ("arrived", "caller", "data", "headers", "refuse_at", "refused", "reply", "size", "subject", "target")

    def __init__(self, subject: bytes, reply: bytes, data: bytes, headers: bytes, arrived: float) -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self.headers = headers
        self.size = len(data) + len(headers)
        self.arrived = arrived
        self.caller = self.target = b""
        self.refuse_at = arrived
        self.refused = False


class Flows:
    """The waiting requests of one caller by object."""

    def __init__(self) -> None:
        self.length = 0
        # Objects that have waited for no turn yet, and the others.
        self._new: dict[bytes, deque[Arrival]] = {}
        self._old: dict[bytes, deque[Arrival]] = {}
        self._was_new = False

    def __contains__(self, target: bytes) -> bool:
        return target in self._old or target in self._new

    def __iter__(self) -> Iterator[Arrival]:
        return (item for flows in (self._new, self._old) for flow in flows.values() for item in flow)

    def put(self, item: Arrival) -> None:
        self.length += 1
        flow = self._old.get(item.target) or self._new.get(item.target)
        if flow is None:
            self._new[item.target] = deque((item,))
        else:
            flow.append(item)

    def take(self, count: int) -> list[Arrival]:
        self._was_new = bool(self._new) and not (self._was_new and self._old)
        flows = self._new if self._was_new else self._old
        target = next(iter(flows))
        flow = flows.pop(target)
        items = [flow.popleft() for _ in range(min(count, len(flow)))]
        if flow:
            self._old[target] = flow
        self.length -= len(items)
        return items


class FairQueue:
    """The waiting requests of all callers."""

    def __init__(self) -> None:
        self.length = 0
        self._callers: dict[bytes, Flows] = {}

    @property
    def callers(self) -> int:
        """The number of callers with waiting requests."""
        return len(self._callers)

    def __iter__(self) -> Iterator[Arrival]:
        return (item for flows in self._callers.values() for item in flows)

    def of(self, caller: bytes) -> Flows | None:
        """Return the waiting requests of a caller, or None if there are none."""
        return self._callers.get(caller)

    def put(self, item: Arrival) -> None:
        flows = self._callers.get(item.caller)
        if flows is None:
            flows = self._callers[item.caller] = Flows()
        flows.put(item)
        self.length += 1

    def take(self, count: int) -> list[Arrival]:
        """Return up to `count` requests of the next caller to its next object. The queue must not be empty."""
        caller = next(iter(self._callers))
        flows = self._callers.pop(caller)
        items = flows.take(count)
        if flows.length:
            self._callers[caller] = flows
        self.length -= len(items)
        return items
