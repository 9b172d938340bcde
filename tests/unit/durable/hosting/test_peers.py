"""The shares that the hosts of a service have in its limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aidevos.durable.hosting.peers import Peers


def test_a_host_alone_has_the_whole_limit() -> None:
    assert Peers().share(20) == 20


@given(st.integers(1, 10_000), st.integers(1, 200))
def test_the_shares_of_all_hosts_exceed_the_limit_only_by_the_one_that_each_host_has(limit: int, hosts: int) -> None:
    share = Peers(hosts).share(limit)

    assert share >= 1
    assert share * hosts <= max(limit, hosts)
    # Rounding down wastes less than one for each host.
    assert share * hosts > limit - hosts


def test_a_share_follows_the_number_of_hosts() -> None:
    peers = Peers()
    peers.count = 3
    shrunk = peers.share(20)
    peers.count = 0

    assert (shrunk, peers.count, peers.share(20)) == (6, 1, 20)
