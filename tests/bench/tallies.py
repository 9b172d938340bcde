"""A host process for objects that emit an event with each command."""

from __future__ import annotations

from aidevos import Service
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.fault_objects import Tally

if __name__ == "__main__":
    run(Service("objects", [Tally]), load(), reports_health=False)
