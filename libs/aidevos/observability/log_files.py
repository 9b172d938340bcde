"""The log files of a fleet's programs: `<program>.log`, and its older parts `<program>.log.1` and so on.

Promise: memory stays bounded, however large the files are and however long a line is. The end of a log is read from its
end, and the logs are merged by time while they are read. A file that is renamed meanwhile is read to its end.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aidevos.observability.log_entries import Entry, LogParser

SUFFIXES = (".log", ".err")
BLOCK = 64 * 1024
# Bytes of a line that are read. The rest is skipped.
MOST_BYTES = 1024 * 1024
Wanted = Callable[[Entry], bool]


def programs_in(folder: Path) -> list[str]:
    """Return the names of the programs that have a log."""
    return sorted({path.stem for path in folder.glob("*.*") if path.suffix in SUFFIXES})


class _Part(NamedTuple):
    """A file that belongs to a log, as far as it has been written when it was opened."""

    file: BinaryIO
    end: int
    changed_at: float


class LogFile:
    """The log of one program, as it is when the block begins."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._parser = LogParser(path.stem)
        # The newest one first. The same file may be found twice if it is renamed meanwhile.
        self._parts: list[_Part] = []
        seen = set()
        for name in (path, *sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=_number)):
            try:
                file = stack.enter_context(name.open("rb"))
            except FileNotFoundError:
                continue
            status = os.fstat(file.fileno())
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                self._parts.append(_Part(file, status.st_size, status.st_mtime))

    def last_first(self) -> Iterator[Entry]:
        """Yield the entries, the last one first."""
        lines = (text for part in self._parts for text in _read_backwards(part))
        at = self._parts[0].changed_at if self._parts else 0.0
        return self._parser.group_backwards(lines, at)

    def since(self, at: float) -> Iterator[Entry]:
        """Yield the entries from this time on."""
        for part in reversed(self._parts):
            if part.changed_at >= at:
                texts = _read_forwards(part, self._find(part, at), part.end)
                entries = self._parser.group(texts, None, part.changed_at)
                yield from (entry for entry in entries if entry.at >= at)

    def follow(self) -> Follower:
        """Return what reads the lines that are written after those of this log."""
        newest = self._parts[0] if self._parts else None
        return Follower(self.path, newest.file if newest else None, newest.end if newest else 0)

    def _find(self, part: _Part, at: float) -> int:
        """Return a place in a file before which everything is older."""
        low, high = 0, part.end
        while high - low > BLOCK:
            middle = (low + high) // 2
            found = next(filter(None, map(self._parser.parse, _read_forwards(part, middle, high))), None)
            if found is not None and found.at < at:
                low = middle
            else:
                high = middle
        return low


class Follower:
    """Reads what is written to a log after a place in its file, by default all that its newest file will have."""

    def __init__(self, path: Path, file: BinaryIO | None = None, offset: int = 0) -> None:
        self._path = path
        self._parser = LogParser(path.stem)
        # A duplicate, because the other one is closed.
        self._file = os.fdopen(os.dup(file.fileno()), "rb") if file else None
        self._offset = offset
        self._rest = b""
        self._at: float | None = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def poll(self) -> list[Entry]:
        """Return the entries that were written since the last poll."""
        texts = [line.decode(errors="replace") for line in self._lines()]
        found = list(self._parser.group(texts, self._at, self._changed_at()))
        if found:
            self._at = found[-1].at
        return found

    def _lines(self) -> Iterator[bytes]:
        yield from self._read()
        if not self._was_replaced():
            return
        # What was written between the last look and the renaming.
        yield from self._read()
        if self._rest:
            yield self._rest
        self.close()
        try:
            self._file, self._offset, self._rest = self._path.open("rb"), 0, b""
        except FileNotFoundError:
            self._file = None
        else:
            yield from self._read()

    def _read(self) -> Iterator[bytes]:
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self._offset:
            # It was emptied.
            self._offset, self._rest = 0, b""
        self._file.seek(self._offset)
        while block := self._file.read(BLOCK):
            self._offset += len(block)
            *lines, rest = (self._rest + block).split(b"\n")
            self._rest = rest[:MOST_BYTES]
            yield from lines

    def _was_replaced(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is None or status.st_ino != os.fstat(self._file.fileno()).st_ino

    def _changed_at(self) -> float:
        return os.fstat(self._file.fileno()).st_mtime if self._file is not None else 0.0


def last_entries(logs: Iterable[LogFile], count: int, wanted: Wanted) -> list[Entry]:
    """Return the last entries of all logs, in the order of their times."""
    merged = heapq.merge(*(log.last_first() for log in logs), key=lambda entry: -entry.at)
    found: deque[Entry] = deque(maxlen=count)
    for entry in filter(wanted, merged):
        found.appendleft(entry)
        if len(found) == count:
            break
    return list(found)


def entries_since(logs: Iterable[LogFile], at: float, wanted: Wanted) -> Iterator[Entry]:
    """Yield the entries of all logs from this time on, in the order of their times."""
    return filter(wanted, heapq.merge(*(log.since(at) for log in logs), key=lambda entry: entry.at))


def _read_backwards(part: _Part) -> Iterator[str]:
    """Yield the lines of a file, the last one first."""
    rest, at = b"", part.end
    while at > 0:
        size = min(BLOCK, at)
        at -= size
        part.file.seek(at)
        rest, *lines = (part.file.read(size) + rest).split(b"\n")
        rest = rest[:MOST_BYTES]
        yield from (line[:MOST_BYTES].decode(errors="replace") for line in reversed(lines))
    yield rest.decode(errors="replace")


def _read_forwards(part: _Part, start: int, end: int) -> Iterator[str]:
    """Yield the lines of a file from one place to another."""
    at, cut = start, False
    while at < end:
        part.file.seek(at)
        line = part.file.readline(min(MOST_BYTES, end - at))
        if not line:
            return
        at += len(line)
        if not cut:
            yield line.rstrip(b"\n").decode(errors="replace")
        cut = not line.endswith(b"\n")


def _number(path: Path) -> int:
    text = path.suffix[1:]
    return int(text) if text.isdigit() else 0
