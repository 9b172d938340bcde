"""A host process that dies at a chosen point: `host_process.py <crash file>`.

A parent imports everything and forks the host. When the host dies by SIGKILL, the parent forks the next one,
as a supervisor would. The crash file holds `<point> <lives>`: each of the next `lives` hosts dies at that
point of a random commit among its first forty.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from aidevos import Service
from aidevos.durable.delivery.relay import Relay
from aidevos.durable.hosting import host
from aidevos.durable.store.mongo import MongoStore
from aidevos.process.serving import check, run
from aidevos.settings import load
from services.objects.account import Account
from tests.support.alarms import Bell
from tests.support.fault_objects import Tally

BEFORE_COMMIT = "before-commit"
AFTER_COMMIT = "after-commit"
BEFORE_RELAY = "before-relay"
FIRST_COMMITS = 40


def arm(file: Path, point: str, lives: int) -> None:
    """Make the next `lives` hosts die at this point."""
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(f"{point} {lives}")
    fresh.replace(file)


def lives_left(file: Path) -> int:
    return int(file.read_text().split()[1])


def _take_life(file: Path) -> str | None:
    point, lives = file.read_text().split()
    if int(lives) == 0:
        return None
    arm(file, point, int(lives) - 1)
    return point


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(point: str) -> None:
    """Patch the crash into the product's own code path."""
    fatal = random.randint(1, FIRST_COMMITS)
    passed = 0

    def reached(where: str) -> None:
        nonlocal passed
        if where == point:
            passed += 1
            if passed == fatal:
                _die()

    commit, offer = MongoStore.commit, Relay.offer

    async def crashing_commit(self: MongoStore, *args: Any) -> Any:
        reached(BEFORE_COMMIT)
        outcomes = await commit(self, *args)
        reached(AFTER_COMMIT)
        return outcomes

    def crashing_offer(self: Relay, *args: Any) -> None:
        reached(BEFORE_RELAY)
        offer(self, *args)

    MongoStore.commit = crashing_commit  # type: ignore[method-assign]
    Relay.offer = crashing_offer  # type: ignore[method-assign]


def main() -> None:
    host.ANNOUNCE_EVERY = float(os.environ.get("TEST_ANNOUNCE_EVERY", host.ANNOUNCE_EVERY))
    file = Path(sys.argv[1])
    service = Service("objects", (Tally, Account, Bell))
    check(service)
    child = 0

    def stop(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    while True:
        point = _take_life(file)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if point is not None:
                _die_at(point)
            run(service, load(), reports_health=False)
            return
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return


if __name__ == "__main__":
    main()
