"""A host of objects that emit an event with each command, as a process."""

from __future__ import annotations

from aidevos.process import service as hosting
from aidevos.settings import load
from tests.support.fault_objects import Tally

if __name__ == "__main__":
    hosting.run([Tally], load())
