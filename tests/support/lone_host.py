"""A host process of the objects that tests with many hosts put under load; nobody restarts it.

`TEST_RELAY=off` leaves everything in the outboxes, and `TEST_SCANS=off` looks into them only when a partition is taken.
`TEST_MUTATION` names a bug to put into it.
"""

from __future__ import annotations

import os

from aidevos import Service
from aidevos.durable.delivery.relay import Relay
from aidevos.durable.ownership import housekeeping
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.fault_objects import Ledger, Tally
from tests.support.mutations import mutated

NEVER = 3600.0


def _leave_outbox(*_: object) -> None:
    """Send nothing."""


if __name__ == "__main__":
    if os.environ.get("TEST_RELAY") == "off":
        Relay.offer = _leave_outbox  # type: ignore[method-assign]
    if os.environ.get("TEST_SCANS") == "off":
        housekeeping.SWEEP_EVERY = housekeeping.SCAN_EVERY = NEVER
    with mutated():
        run(Service("objects", (Tally, Ledger)), load(), reports_health=False)
