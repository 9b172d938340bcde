"""The contract computes the same partition that the NATS server's mapping does."""

from __future__ import annotations

import asyncio

import nats
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts import subjects
from tests.support.kits import examples
from tests.support.servers import Servers

types = st.from_regex(subjects.TYPE_PATTERN, fullmatch=True)
ids = st.from_regex(subjects.ID_PATTERN, fullmatch=True)


def test_any_type_and_id_are_mapped_to_the_partition_that_is_computed(servers: Servers) -> None:
    async def mapped(pairs: list[tuple[str, str]]) -> list[str]:
        connection = await nats.connect(servers.nats_url("fleet"))
        subscription = await connection.subscribe("dop.>")
        for type, id in pairs:
            await connection.publish(subjects.call(type, id, "ping"), b"")
        got = [(await subscription.next_msg(timeout=5)).subject for _ in pairs]
        await connection.close()
        return got

    @examples(10)
    @given(st.lists(st.tuples(types, ids), min_size=1, max_size=100))
    def check(pairs: list[tuple[str, str]]) -> None:
        expected = [f"dop.{subjects.partition(type, id)}.{type}.{id}.ping" for type, id in pairs]
        assert asyncio.run(mapped(pairs)) == expected

    check()
