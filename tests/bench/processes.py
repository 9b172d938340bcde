"""Starts the measured processes as the fleet does, but as children of this one."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from deploy.local import mongo_server
from tests.support import world
from tests.support.programs import spawn
from tests.support.servers import Servers

start = partial(world.start, launch=spawn)
running = partial(world.running, launch=spawn)


class ProductionServers(Servers):
    """Servers without the options that make tests fast or allow fail points, on the disk of the checkout.

    What a sync costs is part of what is measured.
    """

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="bench-", dir=sys.prefix)))

    def _mongo_command(self, program: Path) -> list[str]:
        return mongo_server.command(program, self._settings)
