"""A counter: the smallest useful durable object."""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, command, permission, query

LIMIT = 2**63


class CounterState(msgspec.Struct):
    value: int = 0


class Counter(BaseDurableObject[CounterState], type="counter", management="raw"):
    """A counter that each request changes exactly once."""

    @command(allow=permission("counter:write"))
    async def increment(self, by: int = 1) -> int:
        """Add `by`, which may be negative, and return the new value."""
        value = self.state.value + by
        if not -LIMIT <= value < LIMIT:
            raise Failure("invalid", "the counter would leave the range of 64 bits", field="args.by")
        self.state.value = value
        return value

    @query(allow=permission("counter:read"))
    async def value(self) -> int:
        """Return the present value."""
        return self.state.value
