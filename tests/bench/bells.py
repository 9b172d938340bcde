"""A host process for objects with alarms."""

from __future__ import annotations

from aidevos import Service
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.alarms import Bell

if __name__ == "__main__":
    run(Service("objects", [Bell]), load(), reports_health=False)
