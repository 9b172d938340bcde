"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys

import pytest

from aidevos.cli.errors import CommandError
from aidevos.cli.output import confirm, print_fields, print_rows

Output = pytest.CaptureFixture[str]
ROW = {"id": "a", "owner": {"name": "ada"}, "tags": ["x", "y"], "done": False, "at": None, "more": {"b": 1}}
COLUMNS = {"ID": "id", "OWNER": "owner.name", "TAGS": "tags", "DONE": "done", "AT": "at", "N": lambda row: len(row)}


def test_a_table_has_the_named_columns_as_a_person_reads_them(capsys: Output) -> None:
    print_rows([ROW], COLUMNS, as_json=False)

    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "OWNER", "TAGS", "DONE", "AT", "N"]
    assert row.split() == ["a", "ada", "x,", "y", "no", "-", "6"]


def test_json_has_the_whole_rows(capsys: Output) -> None:
    print_rows([ROW], {"ID": "id"}, as_json=True)

    assert json.loads(capsys.readouterr().out) == [ROW]


def test_the_fields_of_an_object_are_a_table_too(capsys: Output) -> None:
    print_fields(ROW, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["FIELD", "id", "owner"]
    assert lines[-1].strip() == "}"


def test_what_others_have_written_controls_no_terminal_and_is_no_markup(capsys: Output) -> None:
    print_rows([{"id": "\x1b[2J\x9b[red]x[/]\r\x00"}], {"ID": "id"}, as_json=False)

    assert capsys.readouterr().out.splitlines()[1] == r"\x1b[2J\x9b[red]x[/]\x0d\x00"


def test_a_long_cell_is_neither_cut_nor_wrapped_for_a_program(capsys: Output) -> None:
    print_rows([{"id": "x" * 500}], {"ID": "id"}, as_json=False)

    assert capsys.readouterr().out.splitlines()[1] == "x" * 500


def test_without_a_terminal_only_an_option_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)

    with pytest.raises(CommandError, match="--yes"):
        confirm("Delete it?", yes=False)
    confirm("Delete it?", yes=True)
