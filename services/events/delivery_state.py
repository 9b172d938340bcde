"""The stored state of a delivery, its search, and its public representation."""

from __future__ import annotations

from typing import Literal, cast

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.times import rfc3339_of
from aidevos.contracts.webhooks import Attempt, DeliveryInfo, FindDeliveries, Status
from aidevos.queries import And, Compare, Condition, Find

AT = ("at",)
# The number of attempts that are kept and shown.
KEPT = 20


class Tried(msgspec.Struct):
    """A past attempt; `at` is in seconds since the epoch."""

    at: float
    status: int | None
    seconds: float
    error: str


class DeliveryState(msgspec.Struct):
    """The stored state; `event` is the CloudEvent that was published on `subject`.

    Times are in seconds since the epoch.
    """

    status: Literal["none", "pending", "delivered", "failed"] = "none"
    webhook: str = ""
    owner: str = ""
    subject: str = ""
    event_id: str = ""
    event: str = ""
    tries: int = 0
    attempts: list[Tried] = []
    reason: str = ""
    next_at: float = 0.0
    replays: int = 0
    at: float = 0.0
    ended_at: float = 0.0

    def add(self, attempt: Tried) -> None:
        self.tries += 1
        self.attempts = [*self.attempts, attempt][-KEPT:]


def find(args: FindDeliveries) -> Find:
    """Return the store's query for a search."""
    where: list[Condition] = [
        Compare((name,), "eq", value)
        for name, value in {"webhook": args.webhook, "status": args.status}.items()
        if value is not None
    ]
    if args.until is not None:
        where.append(Compare(AT, "lt", args.until.timestamp()))
    return Find(And(tuple(where)), args.limit, AT, descending=args.sort == "-at")


def show(id: str, state: DeliveryState, version: int) -> DeliveryInfo:
    """Return the delivery's public representation."""
    _, type, object, name = state.subject.split(".")
    return DeliveryInfo(
        id=id,
        webhook_id=state.webhook,
        event_id=state.event_id,
        event_type=f"{type}.{name}",
        object_id=subjects.join_object_id(type, object),
        status=cast(Status, state.status),
        tries=state.tries,
        attempts=[
            Attempt(at=rfc3339_of(one.at), status=one.status, seconds=one.seconds, error=one.error)
            for one in state.attempts
        ],
        reason=state.reason,
        next_attempt_at=rfc3339_of(state.next_at) if state.status == "pending" else None,
        replays=state.replays,
        created_at=rfc3339_of(state.at),
        ended_at=None if state.status == "pending" else rfc3339_of(state.ended_at),
        version=version,
    )


# The parts of the search for deliveries.
FIND = (FindDeliveries, find, show, (AT, ("webhook", *AT), ("status", *AT), ("webhook", "status", *AT)))
