"""The logs of a fleet's programs, read from their ends, from a time on, and while they grow."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.observability import log_files
from aidevos.observability.log_entries import Entry, LogParser
from aidevos.observability.log_files import Follower, LogFile, entries_since, last_entries

START = datetime(2026, 11, 29, 8, tzinfo=UTC).timestamp()
Opened = Callable[..., list[LogFile]]


def everything(entry: Entry) -> bool:
    return True


def line(at: float, message: str = "", **more: object) -> str:
    moment = datetime.fromtimestamp(START + at, UTC).isoformat(timespec="milliseconds")
    return (
        json.dumps({"time": moment, "level": "INFO", "service": "s", "message": message or f"m{at:g}", **more}) + "\n"
    )


def messages(entries: object) -> list[str]:
    assert isinstance(entries, list)
    return [entry.line["message"] for entry in entries]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Return a function that opens the logs of programs."""
    with ExitStack() as stack:
        yield lambda *names: [LogFile(tmp_path / f"{name}.log", stack) for name in names]


def test_lines_of_every_kind_get_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        found = [
            LogParser("nats").parse("[17084] 2026/11/30 13:30:00.651614 [ERR] it failed"),
            LogParser("supervisor").parse("2026-11-30 13:30:00,651 CRIT it failed"),
            LogParser("mongo-2").parse(
                '{"t":{"$date":"2026-11-30T08:00:00.651+00:00"},"s":"E",  "c":"NETWORK","id":1,"msg":"it failed",'
                '"attr":{"a":1}}'
            ),
        ]
    finally:
        monkeypatch.undo()
        time.tzset()

    assert [entry and entry.line for entry in found] == [
        {
            "time": "2026-11-30T08:00:00.651+00:00",
            "level": "ERROR",
            "service": "nats",
            "replica": 0,
            "message": "it failed",
        },
        {"time": "2026-11-30T08:00:00.651+00:00", "level": "CRITICAL", "service": "supervisor", "replica": 0}
        | {"message": "it failed"},
        {"time": "2026-11-30T08:00:00.651+00:00", "level": "ERROR", "service": "mongo", "replica": 2}
        | {"message": "it failed", "logger": "network", "attributes": {"a": 1}},
    ]


@given(st.text())
def test_any_text_is_an_entry_or_none(text: str) -> None:
    for start in (
        "",
        "{",
        '{"time":',
        '{"message":1,"time":',
        '{"t":{"$date":',
        "[1] 2026/13/30 13:30:00.651614 [ERR] ",
    ):
        LogParser("x").parse(start + text)


def test_what_a_dying_process_prints_follows_its_last_line(tmp_path: Path, opened: Opened) -> None:
    printed = 'Traceback (most recent call last):\n  File "x"\nValueError: y\n'
    (tmp_path / "a.log").write_text(line(1) + printed + line(3) + "a print\n")
    (tmp_path / "b.log").write_text(line(2))
    expected = [
        ("m1", "INFO", 1),
        (printed.strip(), "ERROR", 1),
        ("m2", "INFO", 2),
        ("m3", "INFO", 3),
        ("a print", "", 3),
    ]

    for entries in (
        last_entries(opened("a", "b"), 9, everything),
        list(entries_since(opened("a", "b"), 0, everything)),
    ):
        assert [(each.line["message"], each.line["level"], each.at - START) for each in entries] == expected
    loud = last_entries(opened("a"), 9, lambda entry: entry.is_severe(3))
    assert messages(loud) == [printed.strip(), "a print"]


def test_older_parts_are_read_as_well_and_all_logs_are_merged_by_time(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "a.log.10").write_text(line(0))
    (tmp_path / "a.log.2").write_text(line(1) + line(3))
    (tmp_path / "a.log.1").write_text(line(5))
    (tmp_path / "a.log").write_text(line(7) + line(9))
    (tmp_path / "b.log").write_text(line(2) + line(4) + line(8))

    assert messages(last_entries(opened("a", "b"), 4, everything)) == ["m5", "m7", "m8", "m9"]
    assert messages(last_entries(opened("a", "b"), 99, everything)) == [f"m{at}" for at in (0, 1, 2, 3, 4, 5, 7, 8, 9)]
    assert messages(list(entries_since(opened("a", "b"), START + 3, everything))) == [
        f"m{at}" for at in (3, 4, 5, 7, 8, 9)
    ]
    assert last_entries(opened("a", "b"), 0, everything) == []


@pytest.mark.parametrize("since", [0, 0.5, 1, 999, 1_998, 1_999.5])
def test_the_lines_from_a_time_on_are_found_without_reading_the_rest(
    tmp_path: Path, opened: Opened, since: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "BLOCK", 1000)
    (tmp_path / "a.log").write_text("".join(line(at) + "printed\n" * (at % 3) for at in range(2_000)))
    parsed = []
    parse = LogParser.parse
    monkeypatch.setattr(LogParser, "parse", lambda self, text: parsed.append(text) or parse(self, text))

    found = list(entries_since(opened("a"), START + since, lambda entry: entry.line["message"] != "printed"))

    found = [entry for entry in found if not entry.line["message"].startswith("printed")]
    assert [entry.at - START for entry in found] == [at for at in range(2_000) if at >= since]
    assert len(parsed) < 2 * (2_000 - since) + 200


def test_a_huge_log_and_a_huge_line_take_little_memory(tmp_path: Path, opened: Opened) -> None:
    with (tmp_path / "a.log").open("w") as file:
        file.writelines(line(at, "x" * 100) for at in range(20_000))
        for _ in range(20):
            file.write("y" * 1_000_000)
        file.write("\n" + line(200_000, "last"))
    tracemalloc.start()
    try:
        end = last_entries(opened("a"), 3, everything)
        count = sum(1 for _ in entries_since(opened("a"), START, everything))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert [len(message) for message in messages(end)] == [100, 1024 * 1024, 4]
    assert count == 20_002
    assert most < 12_000_000


def test_a_log_is_followed_through_renaming_emptying_and_half_lines(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.log"
    path.write_text(line(0) + line(1)[:-5])
    (log,) = opened("a")
    follower = log.follow()
    assert messages(last_entries([log], 9, everything))[0] == "m0"

    assert follower.poll() == []
    with path.open("a") as file:
        file.write("half")
        file.flush()
        assert follower.poll() == []
        file.write(" a line\n" + line(2))
    assert messages(follower.poll())[1:] == ["m2"]
    with path.open("a") as file:
        file.write(line(3) + "cut off")
    path.rename(tmp_path / "a.log.1")
    assert messages(follower.poll()) == ["m3"]
    path.write_text(line(4))
    assert messages(follower.poll()) == ["cut off", "m4"]
    os.truncate(path, 0)
    assert follower.poll() == []
    with path.open("a") as file:
        file.write(line(5) + "after it\n")
    found = follower.poll()
    assert [(entry.at - START, entry.line["message"]) for entry in found] == [(5, "m5"), (5, "after it")]
    follower.close()


def test_a_log_that_begins_later_is_followed_from_its_first_line(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "late.log")

    assert follower.poll() == []
    (tmp_path / "late.log").write_text(line(1))
    assert messages(follower.poll()) == ["m1"]
    follower.close()
