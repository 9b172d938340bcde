"""A process answers only for partitions that it owns, and begins nothing in one that leaves."""

from __future__ import annotations

from aidevos.contracts import subjects
from aidevos.durable.base.partitions import Partitions


def test_a_partition_is_owned_until_it_is_dropped_and_served_until_it_leaves() -> None:
    partitions = Partitions(8, lambda: True)
    partitions.take("cat", [1, 5, 3])
    assert [partitions.owns("cat", each) for each in (1, 2)] == [True, False]
    assert not partitions.owns("dog", 1)

    partitions.leave("cat", [5])

    assert partitions.owns("cat", 5)
    assert not partitions.serves("cat", 5)
    assert partitions.served("cat") == [1, 3]
    assert partitions.owned() == {"cat": [1, 3, 5]}
    partitions.drop("cat", 5)
    assert not partitions.owns("cat", 5)
    partitions.take("cat", [5])
    assert partitions.serves("cat", 5)


def test_nothing_is_owned_without_the_lease() -> None:
    live = True
    partitions = Partitions(8, lambda: live)
    partitions.take("cat", [1])
    live = False
    assert not partitions.owns("cat", 1)
    assert not partitions.serves("cat", 1)


def test_an_objects_partition_is_the_servers() -> None:
    assert Partitions(100, lambda: True).of("cat", "tom") == subjects.partition("cat", "tom", 100)
