"""Distributes tests over processes: long tests start first, and tests that share a module fixture stay together."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

# The folder whose `world` fixture runs the shared services.
SHARED_SERVICES = "tests/e2e"
# A test with a larger timeout, in seconds, counts as long.
LONG = 120
# Each process starts its own servers, which take about 1 GiB of memory.
MOST_PROCESSES = 8


class Scheduling(LoadScopeScheduling):
    """Hands out tests one by one, in order; a module with module-scoped fixtures goes to one process as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if _has_module_fixture(module) else nodeid


@cache
def _has_module_fixture(path: str) -> bool:
    return '@pytest.fixture(scope="module")' in Path(path).read_text()


def processes() -> int:
    """Return the number of processes: one per core. More would only make each other wait, until tests time out."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def weight(item: pytest.Item) -> int:
    """Return a sort key that puts long tests first: own services, shared services, servers only, no servers."""
    fixtures = getattr(item, "_fixtureinfo", None)
    found = fixtures.name2fixturedefs if fixtures else {}
    if "world" in found and found["world"][-1].baseid == SHARED_SERVICES:
        return 2 if _timeout(item) <= LONG else 1
    if _timeout(item) > LONG or "worlds" in found or item.path.parts[-2] == "faults":
        return 0
    return 3 if item.get_closest_marker("servers") else 4


def _timeout(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 0
