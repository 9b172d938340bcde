"""The processes that are measured: each is started as the fleet starts it, and a child of this one."""

from __future__ import annotations

from functools import partial

from tests.support import world
from tests.support.programs import spawn

start = partial(world.start, launch=spawn)
running = partial(world.running, launch=spawn)
