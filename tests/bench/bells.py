"""A host of objects with alarms, as a process."""

from __future__ import annotations

from aidevos.process import service as hosting
from aidevos.settings import load
from tests.support.alarms import Bell

if __name__ == "__main__":
    hosting.run([Bell], load())
