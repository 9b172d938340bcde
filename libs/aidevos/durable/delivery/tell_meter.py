"""The metrics of tells: how many were applied, by their outcome, and how late.

The type and the method of a tell come from its sender. Only names that exist become labels.
"""

from __future__ import annotations

from aidevos.contracts.errors import Failure
from aidevos.observability.metrics import TELL_LAG, TELLS

UNKNOWN = "unknown"


def count_done(type: str, method: str, waited: float) -> None:
    """Count a tell that was applied, `waited` seconds after it was sent."""
    TELLS.labels(type, method, "done").inc()
    TELL_LAG.observe(max(0.0, waited))


def count_failed(type: str, method: str, failure: Failure, outcome: str = "failed") -> None:
    """Count an attempt that failed, or that was the last one."""
    names = (UNKNOWN, UNKNOWN) if failure.code in ("unknown-type", "unknown-method") else (type, method)
    TELLS.labels(*names, outcome).inc()
