"""Starts the measured processes as the fleet does, but as children of this one."""

from __future__ import annotations

from functools import partial

from tests.support import world
from tests.support.programs import spawn

start = partial(world.start, launch=spawn)
running = partial(world.running, launch=spawn)
