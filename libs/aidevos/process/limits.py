"""The limits of a process's objects."""

from __future__ import annotations

from aidevos.durable.turns.completion import Bounds
from aidevos.durable.turns.environment import Limits
from aidevos.settings import Settings

# Bytes of the largest NATS payload that are reserved for the headers of an answer.
HEADERS_RESERVE = 16 * 1024


def limits_of(settings: Settings, max_payload: int) -> Limits:
    """Return the limits of the settings; an answer and its headers must fit into a NATS message."""
    return Limits(
        answer=min(Limits().answer, max_payload - HEADERS_RESERVE),
        records=Bounds(
            age=settings.request_id_age,
            tell_age=settings.tell_age,
            clients=settings.max_clients,
            records=settings.max_records,
        ),
        state=settings.max_state,
        mailbox=settings.max_mailbox,
        pending=settings.max_pending,
        outbox=settings.max_outbox,
        alarms=settings.max_alarms,
        alarm_rate=settings.alarm_rate,
        alarm_deadline=settings.alarm_deadline,
        turn_deadline=settings.turn_deadline,
        idle_after=settings.idle_after,
        memory=settings.max_memory,
        default_deadline=settings.default_deadline,
        max_deadline=settings.max_deadline,
    )
