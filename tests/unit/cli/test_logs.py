"""`aidevos logs`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aidevos.cli.main import main

Output = pytest.CaptureFixture[str]


def moment(ago: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=ago)


def line(ago: float, message: str, level: str = "INFO", **more: object) -> str:
    at = moment(ago).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "level": level, "service": "objects", "message": message, **more}) + "\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of logs of a fleet."""
    monkeypatch.setenv("AIDEVOS_HOME", str(tmp_path))
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "objects.log").write_text(line(5000, "old") + line(50, "paid", order="R-7") + line(20, "bad", "ERROR"))
    (folder / "objects-1.log").write_text(line(30, "second"))
    (folder / "nats.log").write_text("[1] 2026/01/01 00:00:00.000000 [WRN] slow\nno line\n")
    return folder


def shown(capsys: Output, *arguments: str) -> list[str]:
    """Return the messages of the lines that a command shows."""
    assert main(["logs", "--json", *arguments]) == 0
    return [json.loads(text)["message"] for text in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("", ["slow", "no line", "old", "paid", "second", "bad"]),
        ("-n 2", ["second", "bad"]),
        ("-n 0", []),
        ("objects", ["old", "paid", "second", "bad"]),
        ("objects-1 nats", ["slow", "no line", "second"]),
        ("--since 10m", ["paid", "second", "bad"]),
        ("--since 10m -n 1", ["bad"]),
        ("--level warning", ["slow", "no line", "bad"]),
        ("--grep R-[0-9]", ["paid"]),
        ("--grep ^bad$", ["bad"]),
        ("--grep nothing", []),
    ],
)
def test_lines_are_chosen_by_service_time_level_and_pattern(
    folder: Path, capsys: Output, arguments: str, messages: list[str]
) -> None:
    assert shown(capsys, *arguments.split()) == messages


def test_since_takes_a_moment_which_is_in_utc_if_it_names_no_zone(folder: Path, capsys: Output) -> None:
    assert shown(capsys, "--since", moment(40).isoformat()) == ["second", "bad"]
    assert shown(capsys, "--since", moment(25).replace(tzinfo=None).isoformat()) == ["bad"]


def test_lines_are_readable_and_without_colours_unless_a_terminal_shows_them(folder: Path, capsys: Output) -> None:
    assert main(["logs", "nats", "objects-1"]) == 0

    first, second, third = capsys.readouterr().out.splitlines()
    assert first.endswith("WARN  nats            slow")
    assert second.endswith("      nats            no line")
    assert third.endswith("INFO  objects         second")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("object", ["'object'", "nats, objects"]),
        ("--level LOUD", ["LOUD", "DEBUG, INFO, WARNING, ERROR, CRITICAL"]),
        ("--grep (", ["'('"]),
        ("--since tomorrow", ["tomorrow", "10m"]),
        ("-n -1", ["--lines"]),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(folder: Path, capsys: Output, arguments: str, words: list[str]) -> None:
    assert main(["logs", *arguments.split()]) == 2

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert all(word in output.err for word in words), output.err


def test_without_a_fleet_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setenv("AIDEVOS_HOME", str(tmp_path))

    assert main(["logs"]) == 1
    assert "there are no logs" in capsys.readouterr().err


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aidevos.cli.main", "logs", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_new_lines_and_new_logs_are_followed_until_ctrl_c(folder: Path) -> None:
    following = start("-f", "-n", "1", "--json", "objects", "--grep", "bad|new|stand|named")
    assert following.stdout is not None

    def next_message() -> str:
        return str(json.loads(following.stdout.readline())["message"])

    assert next_message() == "bad"
    with (folder / "objects.log").open("a") as file:
        file.write(line(0, "new") + line(0, "not this!"))
    assert next_message() == "new"
    (folder / "objects-64.log").write_text(line(0, "stand-in"))
    assert next_message() == "stand-in"
    (folder / "objects.log").rename(folder / "objects.log.1")
    (folder / "objects.log").write_text(line(0, "renamed"))
    assert next_message() == "renamed"
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=30) == ("", "")
    assert following.returncode == 130


@pytest.mark.parametrize("arguments", [["-n", "100000"], ["-f"]])
def test_a_reader_that_has_enough_ends_the_command_quietly(folder: Path, arguments: list[str]) -> None:
    (folder / "objects.log").write_text(line(9, "x" * 200) * 10_000)
    showing = start(*arguments)
    assert showing.stdout is not None
    showing.stdout.readline()
    showing.stdout.close()
    end = time.monotonic() + 30
    while showing.poll() is None and time.monotonic() < end:
        with (folder / "objects.log").open("a") as file:
            file.write(line(0, "more"))
        time.sleep(0.05)

    assert showing.returncode == 0
    assert showing.stderr is not None
    assert showing.stderr.read() == ""
    showing.stderr.close()


def test_the_list_of_commands_loads_nothing_that_only_logs_need() -> None:
    heavy = {"structlog", "rich", "aidevos.observability.log_files", "aidevos.observability.log_lines"}
    code = f"import sys, aidevos.cli.main; print({heavy} & {{*sys.modules}})"

    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout == "set()\n"
