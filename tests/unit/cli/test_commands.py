"""The table of commands: each is loaded when it is reached, and nothing heavy before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from aidevos.cli.commands import COMMANDS, Commands, Pending, Row
from aidevos.cli.main import main
from tests.support.fake_gateway import FakeGateway

HEAVY = ("nats", "jwt", "cryptography", "prometheus_client", "motor", "pymongo", "httpx2", "rich", "starlette")
# With this, Typer reads values, which the first two commands have none of.
VALUES = "pydantic"
# Columns of a terminal.
WIDTH = 80


def rows(given: Any = COMMANDS, path: str = "") -> Iterator[tuple[str, Row]]:
    """Yield each command with its full name."""
    for row in [row for section in given.values() for row in section]:
        name = f"{path} {row.name}".strip()
        yield name, row
        if isinstance(row.source, tuple):
            yield from rows({"": row.source}, name)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, and name on standard error what it has imported of the heavy modules."""
    code = (
        "import sys; from aidevos.cli.main import main\n"
        f"try: main({list(arguments)})\n"
        f"finally: print(*sorted({ {*HEAVY, VALUES} } & sys.modules.keys()), file=sys.stderr)"
    )
    environment = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("arguments", "loaded"), [(["--help"], ""), (["--version"], ""), (["objects", "--help"], VALUES)]
)
def test_help_and_version_load_nothing_heavy(arguments: list[str], loaded: str) -> None:
    ended = run(*arguments)

    assert ended.stdout
    assert ended.stderr == f"{loaded}\n"


def test_a_completion_of_the_names_of_commands_loads_no_command() -> None:
    ended = run(_AIDEVOS_COMPLETE="complete_bash", COMP_WORDS="aidevos objects de", COMP_CWORD="2")

    assert (ended.stdout, ended.stderr) == ("delete\n", f"{VALUES}\n")


def test_a_call_over_http_loads_neither_nats_nor_mongodb(gateway: FakeGateway) -> None:
    gateway.answers["GET /durable-objects/counter:a"] = 200, {}

    ended = run("objects", "get", "counter:a", "--json", AIDEVOS_URL=gateway.url)

    assert ended.stdout == "{}\n"
    assert not {"nats", "motor", "pymongo", "rich"} & {*ended.stderr.split()}


def test_the_help_lists_every_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    for title, section in COMMANDS.items():
        width = max(len(row.name) for row in section)
        assert f"{title}:" in lines
        for row in section:
            line = f"  {row.name:{width}}  {row.about}"
            assert line in lines
            assert len(line) <= WIDTH


@pytest.mark.parametrize(("name", "row"), [*rows()], ids=[name for name, _ in rows()])
def test_a_command_is_loaded_and_begins_its_help_with_its_line(name: str, row: Row) -> None:
    command = Pending(row).load()

    assert command.help.splitlines()[0] == row.about
    assert command.get_short_help_str(WIDTH)
    for each in command.commands.values() if not isinstance(command, Commands) and hasattr(command, "commands") else ():
        assert each.help, f"{name} {each.name} has no help"


def test_every_option_and_argument_has_a_help() -> None:
    def check(path: str, command: Any) -> None:
        for name, each in getattr(command, "commands", {}).items():
            check(f"{path} {name}", each.load() if isinstance(each, Pending) else each)
        for each in command.params:
            assert each.help, f"{path}: {each.name}"

    for name, row in rows():
        check(name, Pending(row).load())


def test_a_misspelt_command_is_named_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["objects", "lst"]) == 2

    assert capsys.readouterr().err == (
        "aidevos: No such command 'lst'. Did you mean 'list'?; see `aidevos objects --help`\n"
    )


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -"), ("zsh", "#compdef aidevos"), ("fish", "complete ")]
)
def test_a_completion_script_is_printed_for_each_shell(shell: str, word: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "aidevos.cli.main", "completion", shell], capture_output=True, text=True
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert word in ended.stdout
    assert "_AIDEVOS_COMPLETE" in ended.stdout
