"""A host process of the objects that tests with many hosts put under load; nobody restarts it."""

from __future__ import annotations

from aidevos import Service
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.fault_objects import Ledger, Tally

if __name__ == "__main__":
    run(Service("objects", (Tally, Ledger)), load(), reports_health=False)
