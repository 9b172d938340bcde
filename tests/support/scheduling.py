"""Distributes tests over processes: long tests start first, and tests that share a fixture stay together."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any, NamedTuple

import pytest
from xdist.scheduler import LoadGroupScheduling

# The folders whose `world` fixture runs the shared services.
SHARED_SERVICES = ("tests/e2e", "tests/e2e/console", "tests/faults")
# A test with a larger timeout, in seconds, counts as long.
LONG = 120
# The folder of tests that use servers but no services: they wait for servers and for promised times.
WAITING = "tests/integration/"
# Each process starts its own servers, which take about 1 GiB of memory.
MOST_PROCESSES = 12
LIGHTEST = 4
# A node of RabbitMQ takes as long to start as all other servers. One process runs all tests that use the fixture of
# this name, or that ask for it because a parameter says so.
RABBITMQ = "rabbitmq"


class Scheduling(LoadGroupScheduling):
    """Hands out tests one by one, in order; those with the same group behind their ID go to one process as a whole.

    Every third process first takes the tests that mostly wait, and so leave the cores to the two others.
    """

    def _assign_work_unit(self, node: Any) -> None:
        if takes_waiting(node.gateway.id):
            waiting = (scope for scope, tests in self.workqueue.items() if next(iter(tests)).startswith(WAITING))
            self.workqueue.move_to_end(next(waiting, next(iter(self.workqueue))), last=False)
        super()._assign_work_unit(node)


class Named(NamedTuple):
    """What the scheduler is told of a test: its ID, with its group behind it."""

    nodeid: str


def named(items: list[pytest.Item]) -> list[Named]:
    return [Named(f"{item.nodeid}@{name}" if (name := group(item)) else item.nodeid) for item in items]


def group(item: pytest.Item) -> str | None:
    """Return the group whose tests share what is dear to start, or None if any process can run the test.

    A mark `xdist_group` names it. Otherwise it is RabbitMQ, or the package or module for which a fixture is made once.
    Module fixtures of a `conftest.py` count for nothing, since they only pass on what is made once for a process.
    """
    if mark := item.get_closest_marker("xdist_group"):
        return str(mark.args[0])
    if RABBITMQ in getattr(item, "fixturenames", ()) or RABBITMQ in _parameters(item):
        return RABBITMQ
    module = item.nodeid.partition("::")[0]
    places = [(each.scope, each.baseid.partition("::")[0]) for each in _fixtures(item).values()]
    shared = [place for scope, place in places if scope == "package" or (scope != "function" and place == module)]
    return min(shared, key=len, default=None)


def arrange(items: list[pytest.Item]) -> None:
    """Put long tests first, and with them the whole groups that they belong to."""
    groups = [group(item) or item.nodeid for item in items]
    weights: dict[str, int] = defaultdict(lambda: LIGHTEST)
    for item, name in zip(items, groups, strict=True):
        weights[name] = min(weights[name], weight(item))
    items[:] = [item for _, item in sorted(zip(groups, items, strict=True), key=lambda pair: weights[pair[0]])]


def processes() -> int:
    """Return the number of processes: one per core, and for each two of them one that mostly waits.

    More would only make each other wait, until tests time out.
    """
    return min(len(os.sched_getaffinity(0)) * 3 // 2, MOST_PROCESSES)


def takes_waiting(worker: str) -> bool:
    """Return True if the process of this ID, such as `gw2`, prefers tests that mostly wait."""
    return int(worker.removeprefix("gw")) % 3 == 2


def weight(item: pytest.Item) -> int:
    """Return a sort key that puts long tests first: own services, shared services, servers only, no servers."""
    found = _fixtures(item)
    if "world" in found and found["world"].baseid in SHARED_SERVICES:
        return 2 if _timeout(item) <= LONG else 1
    if _timeout(item) > LONG or "worlds" in found or item.path.parts[-2] == "faults":
        return 0
    return 3 if item.get_closest_marker("servers") else LIGHTEST


def _fixtures(item: pytest.Item) -> dict[str, Any]:
    """Return the definitions of the fixtures that a test uses, by their names."""
    found = getattr(item, "_fixtureinfo", None)
    return {name: definitions[-1] for name, definitions in found.name2fixturedefs.items()} if found else {}


def _parameters(item: pytest.Item) -> list[Any]:
    found = getattr(item, "callspec", None)
    return [value for value in found.params.values() if isinstance(value, str)] if found else []


def _timeout(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 0
