"""An overview of the processes of a fleet on this machine, each as it answers and not only as it is supervised.

Promise: a process that is stopped or hangs is never shown as running. Everything is found without a server of the
fleet. The supervised programs come first, in start order, then the processes that users started.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from aidevos.contracts.times import rfc3339_of
from aidevos.process.fleet import FLEET_FILE, Fleet, load_fleet
from aidevos.process.machine import STOPPED, Usage, read_usage
from aidevos.process.presence import Seen, find_processes
from aidevos.process.supervised import Supervised, read_programs
from aidevos.settings import split_urls

RUNNING, UNWELL, SILENT, STARTING, ENDED = "running", "not well", "not answering", "starting", "ended"
PROBE_WITHIN = 2.0
# The parts under which processes report the servers.
SERVERS = {"nats": "NATS", "mongo": "MongoDB"}


class Row(msgspec.Struct, kw_only=True):
    """A process. `since` is when its state began, if that is known; `detail` says why it isn't `running`.

    `supervised` is False for the processes that users started. `memory` is in bytes, `cpu` in percent of a processor,
    and `uptime` in seconds.
    """

    name: str
    state: str
    since: str = ""
    detail: str = ""
    pid: int = 0
    supervised: bool = True
    uptime: float = 0.0
    restarts: int = 0
    memory: int = 0
    cpu: float = 0.0
    types: list[str] = []
    tasks: list[str] = []
    partitions: int = 0
    objects: int = 0


class Overview:
    """The processes under a home. CPU is measured between two calls of `read`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._before: dict[int, Usage] = {}
        self._read_at = time.monotonic()
        # True if there is a fleet whose supervisor doesn't answer.
        self.is_orphaned = False

    def read(self) -> list[Row]:
        """Return a row for each process, none if no fleet is up and nothing runs."""
        fleet = load_fleet(self._home) if (self._home / FLEET_FILE).exists() else None
        programs = read_programs(self._home)
        self.is_orphaned = fleet is not None and programs is None
        seen = find_processes(self._home)
        if programs is None:
            programs = _published(fleet)
        programs = sorted(programs, key=lambda program: program.name not in SERVERS)
        rows = [self._supervised(program, fleet, seen) for program in programs]
        known = {pid for program in programs for pid in _family(program.pid, seen)}
        rows += [self._own(each) for each in seen if each.process.pid not in known]
        self._measure(rows, seen)
        return rows

    def _supervised(self, program: Supervised, fleet: Fleet | None, seen: Sequence[Seen]) -> Row:
        row = Row(name=program.name, state=program.state, pid=program.pid, restarts=_restarts(fleet, program.pid))
        usage = read_usage(program.pid) if program.pid else None
        if usage is None:
            row.state = ENDED if program.pid else program.state
            return row
        family = _family(program.pid, seen)
        own = [each for each in seen if each.process.pid in family]
        if program.name in SERVERS:
            _probe(row, fleet, seen)
        elif own:
            _tell(row, own)
        else:
            row.state, row.since = STARTING, rfc3339_of(usage.since)
        _note_stopped(row, usage)
        return row

    def _own(self, seen: Seen) -> Row:
        name = f"{seen.process.service}-{seen.process.replica}" if seen.process.replica else seen.process.service
        row = Row(name=name, state=RUNNING, pid=seen.process.pid, supervised=False)
        _tell(row, [seen])
        if usage := read_usage(row.pid):
            _note_stopped(row, usage)
        return row

    def _measure(self, rows: Iterable[Row], seen: Sequence[Seen]) -> None:
        """Add what the processes use, with that of their workers."""
        now, usages = time.monotonic(), dict[int, Usage]()
        for row in rows:
            for pid in _family(row.pid, seen):
                if usage := read_usage(pid):
                    usages[pid] = usage
                    row.memory += usage.memory
                    before = self._before.get(pid, usage)
                    row.cpu += max(0.0, usage.cpu - before.cpu) / max(0.01, now - self._read_at) * 100
            if row.pid in usages:
                row.uptime = time.time() - usages[row.pid].since
        self._before, self._read_at = usages, now


def _family(pid: int, seen: Sequence[Seen]) -> set[int]:
    """Return the IDs of a process and of its workers."""
    if not pid:
        return set()
    others = ((each.process.pid, read_usage(each.process.pid)) for each in seen)
    return {pid, *(other for other, usage in others if usage is not None and usage.parent == pid)}


def _published(fleet: Fleet | None) -> list[Supervised]:
    """Return the programs that a supervisor has left behind."""
    processes = fleet.processes if fleet is not None else []
    return [Supervised(f"{each.name}-{each.replica}".removesuffix("-0"), RUNNING, each.pid) for each in processes]


def _restarts(fleet: Fleet | None, pid: int) -> int:
    processes = fleet.processes if fleet is not None else []
    return next((each.restarts for each in processes if each.pid == pid), 0)


def _tell(row: Row, seen: Sequence[Seen]) -> None:
    """Add what the processes of a program say of themselves; if one is silent, that comes first."""
    processes, now = [each.process for each in seen], time.time()
    row.types, row.tasks = processes[0].types, processes[0].tasks
    row.partitions = sum(sum(each.partitions.values()) for each in processes)
    row.objects = sum(each.objects for each in processes)
    silent = [since for each in seen if (since := each.silent_since(now)) is not None]
    problems = sorted((problem for each in processes for problem in each.problems), key=lambda problem: problem.status)
    if silent:
        row.state, row.since = SILENT, rfc3339_of(min(silent))
    elif problems:
        row.state = UNWELL if problems[0].status == "fail" else RUNNING
        row.since, row.detail = problems[0].since, problems[0].detail
    else:
        row.state = RUNNING


def _note_stopped(row: Row, usage: Usage) -> None:
    if usage.state in STOPPED:
        row.state, row.detail = SILENT, "it is stopped (SIGSTOP)"


def _probe(row: Row, fleet: Fleet | None, seen: Sequence[Seen]) -> None:
    """Ask a server. Its clients know since when it doesn't answer."""
    if fleet is None or PROBES[row.name](fleet):
        row.state = RUNNING
        return
    told = [problem.since for each in seen for problem in each.process.problems if problem.part == SERVERS[row.name]]
    row.state, row.since = SILENT, min(told, default="")


def _nats_answers(fleet: Fleet) -> bool:
    server = urlsplit(split_urls(fleet.nats_url)[0])
    try:
        with socket.create_connection((server.hostname or "", server.port or 4222), PROBE_WITHIN) as connection:
            return connection.recv(5) == b"INFO "
    except OSError:
        return False


def _mongo_answers(fleet: Fleet) -> bool:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    limit = int(PROBE_WITHIN * 1000)
    try:
        with MongoClient[dict[str, Any]](
            fleet.mongo_url, serverSelectionTimeoutMS=limit, connectTimeoutMS=limit, socketTimeoutMS=limit
        ) as client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True


PROBES: Mapping[str, Callable[[Fleet], bool]] = {"nats": _nats_answers, "mongo": _mongo_answers}
