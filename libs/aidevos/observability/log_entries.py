"""The entries of the logs of a fleet's processes, in one form: the fields of a line of the fleet's own services.

The servers and the supervisor write lines of their own. Whatever is no line at all, such as what a dying process
prints, follows the line before it, and has its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts.times import rfc3339_of
from aidevos.log_levels import LEVELS

# Lines of a text that isn't part of a log, beyond which it is split.
MOST_LINES = 500
_NATS_LEVELS = {"TRC": "DEBUG", "DBG": "DEBUG", "INF": "INFO", "WRN": "WARNING", "ERR": "ERROR", "FTL": "CRITICAL"}
_MONGO_LEVELS = {"D": "DEBUG", "I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}
_SUPERVISOR_LEVELS = {"TRAC": "DEBUG", "BLAT": "DEBUG", "DEBG": "DEBUG", "WARN": "WARNING", "ERRO": "ERROR"} | {
    "CRIT": "CRITICAL"
}
# [17084] 2026/11/30 08:11:46.651614 [INF] Starting nats-server
_match_nats = re.compile(r"\[\d+\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6}) \[([A-Z]{3})\] (.*)").fullmatch
# 2026-11-30 08:11:55,946 INFO success: …
_match_supervisor = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ([A-Z]{4}) (.*)").fullmatch
_match_program = re.compile(r"(.+?)(?:-(\d+))?").fullmatch
_is_alarming = re.compile(
    r"^(?:Traceback \(most recent call last\):|Fatal Python error|panic:|fatal error:)", re.M
).search


class Entry(NamedTuple):
    """A line of a log. `at` is in seconds since the epoch, and `raw` its text, if that is in the usual form."""

    at: float
    line: dict[str, Any]
    raw: str = ""

    def is_severe(self, least: int) -> bool:
        """True if the level is at least this one of `LEVELS`. Texts that aren't part of a log have none, and count."""
        level = self.line.get("level")
        return level not in LEVELS or LEVELS.index(level) >= least

    def matches(self, pattern: re.Pattern[str]) -> bool:
        """True if the pattern occurs in one of the values."""
        return any(pattern.search(value if isinstance(value, str) else str(value)) for value in self.line.values())


class LogParser:
    """Parses the log of one program, such as `objects-1`."""

    def __init__(self, program: str) -> None:
        found = _match_program(program)
        self._service = found[1] if found else program
        self._replica = int(found[2] or 0) if found else 0

    def parse(self, text: str) -> Entry | None:
        """Return the entry that begins on a line, or None if none does."""
        try:
            if text.startswith("{"):
                return self._parse_json(text)
            if found := _match_nats(text):
                level = _NATS_LEVELS.get(found[2], "INFO")
                return self.entry(_local_time(found[1].replace("/", "-")), level, found[3].strip())
            if found := _match_supervisor(text):
                return self.entry(_local_time(found[1]), _SUPERVISOR_LEVELS.get(found[2], "INFO"), found[3])
        except (ValueError, TypeError, KeyError, AttributeError):
            # It only looks like one.
            return None
        return None

    def entry(self, at: float, level: str, message: str, **more: Any) -> Entry:
        """Return an entry of this program."""
        line = {
            "time": rfc3339_of(at).replace("Z", "+00:00"),
            "level": level,
            "service": self._service,
            "replica": self._replica,
        }
        return Entry(at, {**line, "message": message, **more})

    def group(self, texts: Iterable[str], before: float | None, otherwise: float) -> Iterator[Entry]:
        """Yield the entries of lines in their order.

        `before` is the time of the entry before them, if it is known. A text that has no entry before it has the time
        of the next one, and `otherwise` if there is none.
        """
        for loose, entry in self._split(texts):
            if loose:
                yield self._loose(before or (entry.at if entry else otherwise), loose)
            if entry:
                before = entry.at
                yield entry

    def group_backwards(self, texts: Iterable[str], otherwise: float) -> Iterator[Entry]:
        """Yield the entries of lines that come in reverse order, the last one first."""
        at = otherwise
        for loose, entry in self._split(texts):
            if loose:
                yield self._loose(entry.at if entry else at, loose[::-1])
            if entry:
                at = entry.at
                yield entry

    def _split(self, texts: Iterable[str]) -> Iterator[tuple[list[str], Entry | None]]:
        """Yield the texts without an entry, up to `MOST_LINES` at once, each time with the entry that follows them."""
        loose: list[str] = []
        for text in texts:
            entry = self.parse(text)
            if entry or len(loose) == MOST_LINES:
                yield loose, entry
                loose = []
            if entry is None and text.strip():
                loose.append(text)
        yield loose, None

    def _loose(self, at: float, texts: list[str]) -> Entry:
        message = "\n".join(texts)
        return self.entry(at, "ERROR" if _is_alarming(message) else "", message)

    def _parse_json(self, text: str) -> Entry:
        line = msgspec.json.decode(text, type=dict[str, Any])
        if "message" in line:
            return Entry(datetime.fromisoformat(line["time"]).timestamp(), line, text)
        at = datetime.fromisoformat(line["t"]["$date"]).timestamp()
        more = {"attributes": line["attr"]} if line.get("attr") else {}
        return self.entry(at, _MONGO_LEVELS.get(line["s"][:1], "INFO"), line["msg"], logger=line["c"].lower(), **more)


def _local_time(text: str) -> float:
    """Return the seconds since the epoch of a time without a zone, which is this machine's."""
    return datetime.fromisoformat(text).astimezone().timestamp()
