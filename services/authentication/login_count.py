"""The count of logins by their outcome, for operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aidevos import Failure
from aidevos.observability.metrics import LOGINS

OUTCOMES = {"unauthenticated": "wrong", "mfa-required": "mfa", "rate-limited": "throttled"}


@contextmanager
def counted() -> Iterator[None]:
    """Count the login that the block is."""
    try:
        yield
    except Failure as failure:
        LOGINS.labels(OUTCOMES.get(failure.code, "failed")).inc()
        raise
    LOGINS.labels("ok").inc()
