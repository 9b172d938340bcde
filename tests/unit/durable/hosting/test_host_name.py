"""A host's name belongs to one living process, and to one home."""

from __future__ import annotations

from pathlib import Path

from aidevos.durable.hosting.host_name import HostName


def test_two_homes_on_one_machine_have_no_name_in_common(tmp_path: Path) -> None:
    first, second = HostName(tmp_path / "a", "objects"), HostName(tmp_path / "b", "objects")

    assert first.replica == second.replica
    assert first.name != second.name


def test_a_name_is_free_again_when_its_process_ends(tmp_path: Path) -> None:
    name = HostName(tmp_path, "objects")
    beside = HostName(tmp_path, "objects")
    name.close()

    successor = HostName(tmp_path, "objects")

    assert successor.name == name.name
    assert successor.name != beside.name
