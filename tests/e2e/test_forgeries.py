"""Every forged token, over HTTP and NATS."""

from __future__ import annotations

import time

import pytest

from aidevos.contracts.errors import Failure
from tests.support.forgeries import FORGERIES, Target, good
from tests.support.world import EntryPoint, World


async def test_no_forgery_is_taken_and_none_fails_otherwise(door: EntryPoint, world: World, new_id: str) -> None:
    target = Target(world.issuer.keys.at(time.time()), world.servers.public_url)
    answers = {}
    for name, forge in FORGERIES.items():
        with pytest.raises(Failure) as caught:
            await door.call("counter", new_id, "value", authorization=f"Bearer {forge(target)}")
        answers[name] = (caught.value.status, caught.value.code)

    assert answers == dict.fromkeys(FORGERIES, (401, "unauthenticated"))
    assert await door.call("counter", new_id, "value", authorization=f"Bearer {good(target)}") == 0
