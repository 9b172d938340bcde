"""Partitions spread evenly over the live hosts, and only the fair share moves when hosts come and go."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from aidevos.durable.hosting.assignment import assign

counts = st.integers(1, 80)
hosts = st.sets(st.from_regex(r"objects-[0-9]{1,2}\.[0-9a-f]{16}", fullmatch=True), min_size=1, max_size=12)


@st.composite
def situations(draw: st.DrawFn) -> tuple[int, list[str], dict[int, str]]:
    """Partitions, live hosts, and any owners, of whom some are dead."""
    partitions = draw(counts)
    live = sorted(draw(hosts))
    owner = st.sampled_from([*live, "objects.0000000000000000", "objects.ffffffffffffffff"])
    return partitions, live, draw(st.dictionaries(st.integers(0, partitions + 3), owner))


def _moved(before: Mapping[int, str], after: Mapping[int, str]) -> set[int]:
    return {partition for partition, host in before.items() if after[partition] != host}


@given(situations())
def test_every_partition_has_a_live_host_and_shares_differ_by_one_at_most(
    situation: tuple[int, list[str], dict[int, str]],
) -> None:
    partitions, live, owners = situation

    assigned = assign("counter", partitions, live, owners)

    assert assigned.keys() == set(range(partitions))
    loads = Counter(assigned.values())
    assert loads.keys() <= set(live)
    assert {loads[host] for host in live} <= {partitions // len(live), math.ceil(partitions / len(live))}


@given(situations())
def test_as_many_partitions_stay_as_even_shares_allow(situation: tuple[int, list[str], dict[int, str]]) -> None:
    partitions, live, owners = situation
    present = {partition: host for partition, host in owners.items() if host in live and partition < partitions}
    had = Counter(present.values())

    assigned = assign("counter", partitions, live, owners)

    floor, larger = divmod(partitions, len(live))
    staying = sum(min(had[host], floor) for host in live) + min(larger, sum(had[host] > floor for host in live))
    assert len(present) - len(_moved(present, assigned)) == staying


@given(situations())
def test_nothing_moves_when_nothing_has_changed(situation: tuple[int, list[str], dict[int, str]]) -> None:
    partitions, live, owners = situation
    assigned = assign("counter", partitions, live, owners)
    assert assign("counter", partitions, live, assigned) == assigned


@given(situations(), st.randoms(use_true_random=False))
def test_moves_that_are_done_in_any_order_do_not_change_those_that_remain(
    situation: tuple[int, list[str], dict[int, str]], random: random.Random
) -> None:
    partitions, live, owners = situation
    assigned = assign("counter", partitions, live, owners)

    meanwhile = dict(owners)
    for partition in random.sample(range(partitions), random.randint(0, partitions)):
        if owners.get(partition) != assigned[partition]:
            meanwhile.pop(partition, None)
            if random.random() < 0.5:
                meanwhile[partition] = assigned[partition]

    assert assign("counter", partitions, live, meanwhile) == assigned


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_the_inputs_does_not_matter(
    situation: tuple[int, list[str], dict[int, str]], random: random.Random
) -> None:
    partitions, live, owners = situation
    declined = {host: random.sample(range(partitions), partitions // 4) for host in live[::2]}
    expected = assign("counter", partitions, live, owners, declined)

    hosts, pairs, refusals = list(live), list(owners.items()), list(declined.items())
    for inputs in (hosts, pairs, refusals, *declined.values()):
        random.shuffle(inputs)

    assert assign("counter", partitions, hosts, dict(pairs), dict(refusals)) == expected


@given(counts, hosts)
def test_a_host_that_joins_takes_its_share_and_nothing_else_moves(partitions: int, live: set[str]) -> None:
    before = assign("counter", partitions, live, {})

    after = assign("counter", partitions, live | {"joining"}, before)

    moved = _moved(before, after)
    assert {after[partition] for partition in moved} <= {"joining"}
    assert len(moved) <= partitions / (len(live) + 1)


def test_a_host_that_joins_any_fleet_moves_little_more_than_its_share_of_64() -> None:
    owners = assign("counter", 64, ["host0"], {})
    for n in range(2, 80):
        after = assign("counter", 64, [f"host{i}" for i in range(n)], owners)
        assert len(_moved(owners, after)) <= 1.2 * 64 / n
        owners = after


@given(counts, hosts, st.data())
def test_a_host_that_leaves_moves_only_what_it_had(partitions: int, live: set[str], data: st.DataObject) -> None:
    before = assign("counter", partitions, live | {"staying"}, {})
    leaving = data.draw(st.sampled_from(sorted(live)))

    after = assign("counter", partitions, live - {leaving} | {"staying"}, before)

    assert _moved(before, after) == {partition for partition, host in before.items() if host == leaving}


def test_a_restarted_fleet_of_other_incarnations_is_spread_by_weight_alone() -> None:
    dead = assign("counter", 64, ["a.1", "b.1", "c.1"], {})
    assert assign("counter", 64, ["a.2", "b.2"], dead) == assign("counter", 64, ["a.2", "b.2"], {})


@given(situations(), st.data())
def test_a_host_never_gets_a_partition_that_it_declines(
    situation: tuple[int, list[str], dict[int, str]], data: st.DataObject
) -> None:
    partitions, live, owners = situation
    some = st.sets(st.integers(0, partitions + 3))
    declined = data.draw(st.dictionaries(st.sampled_from([*live, "gone"]), some))

    assigned = assign("counter", partitions, live, owners, declined)

    accepted = {p for p in range(partitions) if any(p not in declined.get(host, ()) for host in live)}
    assert assigned.keys() == accepted
    assert all(host in live and partition not in declined.get(host, ()) for partition, host in assigned.items())
    assert assign("counter", partitions, live, assigned, declined) == assigned
    declined.pop("gone", None)
    assert assign("counter", partitions, live, owners, declined) == assigned


@given(situations(), st.data(), st.randoms(use_true_random=False))
def test_moves_off_hosts_that_decline_do_not_change_while_they_are_done(
    situation: tuple[int, list[str], dict[int, str]], data: st.DataObject, random: random.Random
) -> None:
    partitions, live, owners = situation
    some = st.sets(st.integers(0, partitions))
    declined = data.draw(st.dictionaries(st.sampled_from(live), some))
    assigned = assign("counter", partitions, live, owners, declined)

    done = random.sample(sorted(assigned), random.randint(0, len(assigned)))
    meanwhile = dict(owners) | {partition: assigned[partition] for partition in done}

    assert assign("counter", partitions, live, meanwhile, declined) == assigned


@given(counts, st.integers(1, 6), st.integers(1, 6), st.data())
def test_new_hosts_share_what_old_hosts_decline_and_old_hosts_make_up_for_it(
    partitions: int, old: int, new: int, data: st.DataObject
) -> None:
    old_hosts, new_hosts = [f"old{i}" for i in range(old)], [f"new{i}" for i in range(new)]
    unknown = data.draw(st.sets(st.integers(0, partitions - 1)))
    owners = assign("counter", partitions, old_hosts + new_hosts, {})

    assigned = assign("counter", partitions, old_hosts + new_hosts, owners, dict.fromkeys(old_hosts, unknown))

    loads = Counter(assigned.values())
    of_old, of_new = ([loads[host] for host in hosts] for hosts in (old_hosts, new_hosts))
    assert max(of_old) - min(of_old) <= 1
    assert max(of_new) - min(of_new) <= 1
    is_even = max(of_old + of_new) - min(of_old + of_new) <= 1
    assert is_even or (len(unknown) > partitions // (old + new) * new and sum(of_new) == len(unknown))


def test_a_partition_that_every_host_declines_has_no_host() -> None:
    assert 3 not in assign("counter", 8, ["a", "b"], {3: "a"}, {"a": [3], "b": [3, 4]})


def test_without_hosts_nothing_is_assigned() -> None:
    assert assign("counter", 64, [], {0: "gone"}) == {}


def test_types_spread_differently_over_the_same_hosts() -> None:
    hosts = [f"host{i}" for i in range(8)]
    counter, account = (assign(type, 64, hosts, {}) for type in ("counter", "account"))
    # Independent choices among eight hosts agree for eight of 64 partitions on average.
    assert sum(counter[partition] == account[partition] for partition in counter) < 24


def test_types_of_fewer_partitions_than_hosts_use_different_hosts() -> None:
    hosts = [f"host{i}" for i in range(100)]
    used = Counter(host for i in range(100) for host in assign(f"type{i}", 5, hosts, {}).values())
    assert len(used) > 90
    assert max(used.values()) < 20


def test_the_assignment_is_the_same_in_every_process_and_version() -> None:
    assigned = assign("counter", 16, ["objects-0.00", "objects-1.00", "objects-2.00"], {3: "objects-1.00"})
    assert "".join(assigned[partition][8] for partition in range(16)) == "2101210210020210"


def test_a_change_of_a_large_fleet_is_worked_out_at_once() -> None:
    hosts = [f"host{i}" for i in range(1000)]
    owners = {partition: hosts[partition % 1000] for partition in range(4096)}

    began = time.process_time()
    assigned = assign("counter", 4096, hosts[1:], owners)

    assert _moved(owners, assigned) == {0, 1000, 2000, 3000, 4000}
    # About 10 ms. Hashing every pair takes more than a second.
    assert time.process_time() - began < 0.3
