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


def test_a_pod_gives_its_hosts_its_name(tmp_path: Path) -> None:
    """Each pod has a home of its own, so the lock tells apart only processes within one pod."""
    pod, other = tmp_path / "a", tmp_path / "b"

    names = [HostName(pod, "objects", host="objects-7d9f-x2"), HostName(pod, "objects", host="objects-7d9f-x2")]
    names.append(HostName(other, "objects", host="objects-7d9f-q8"))

    assert [name.name for name in names] == [
        "objects-0_objects-7d9f-x2",
        "objects-1_objects-7d9f-x2",
        "objects-0_objects-7d9f-q8",
    ]


def test_a_restarted_container_of_a_pod_replaces_the_one_before(tmp_path: Path) -> None:
    before = HostName(tmp_path / "first", "objects", host="objects-7d9f-x2")
    before.close()

    after = HostName(tmp_path / "second", "objects", host="objects-7d9f-x2")

    assert after.name == before.name
