"""The dead letters of unknown senders that several hosts store."""

from __future__ import annotations

import pytest

from aidevos.contracts.dead_letters import Letter
from aidevos.durable.delivery.anonymous_letters import RATE, AnonymousLetters
from aidevos.durable.hosting.peers import Peers

LETTER = Letter(
    id="a",
    kind="tell",
    source="",
    subject="do.slate.a.write",
    payload=b"{}",
    code="unauthenticated",
    detail="",
    attempts=1,
    at=0.0,
    content_type="",
    confidential=False,
    from_client=True,
)


@pytest.mark.parametrize("hosts", [1, 2, 3, 7, 60])
def test_all_hosts_together_store_no_more_letters_than_one_host_would(hosts: int) -> None:
    peers = Peers(hosts)
    everyone = [AnonymousLetters(peers.share) for _ in range(hosts)]
    stored = [sum(host.strip(LETTER, 0.0) is not None for _ in range(RATE.capacity)) for host in everyone]

    assert min(stored) >= 1
    assert RATE.capacity - 2 * hosts <= sum(stored) <= RATE.capacity


def test_a_host_whose_peers_have_left_stores_letters_for_all_of_them() -> None:
    peers = Peers(3)
    letters = AnonymousLetters(peers.share)
    among_three = sum(letters.strip(LETTER, 0.0) is not None for _ in range(RATE.capacity))
    peers.count = 1
    alone = sum(letters.strip(LETTER, RATE.window) is not None for _ in range(RATE.capacity))

    assert (among_three, alone) == (RATE.capacity // 3, RATE.capacity)
