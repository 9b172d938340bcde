"""A host lets go of everything when its incarnation ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aidevos.process.incarnations import serve_incarnation
from tests.support.metrics import Growth


class Incarnation:
    """A fake host whose `part` fails."""

    def __init__(self, part: str, error: BaseException | None) -> None:
        self.part = part
        self.error = error
        self.lease = SimpleNamespace(lost=asyncio.Event())
        self.did: list[str] = []

    def _do(self, part: str) -> None:
        self.did.append(part)
        if part == self.part and self.error is not None:
            raise self.error

    async def start(self) -> None:
        self._do("start")

    async def drain(self, within: float) -> None:
        self._do("drain")

    async def abandon(self) -> None:
        self._do("abandon")


@pytest.mark.parametrize(
    ("part", "error", "did"),
    [
        ("", None, ["start", "drain"]),
        ("start", RuntimeError("a mistake"), ["start", "abandon"]),
        ("drain", RuntimeError("a mistake"), ["start", "drain", "abandon"]),
        ("start", OSError("no route"), ["start", "abandon"]),
    ],
)
async def test_a_host_lets_go_of_everything_whatever_fails(
    part: str, error: BaseException | None, did: list[str]
) -> None:
    host: Any = Incarnation(part, error)
    stop = asyncio.Event()
    stop.set()

    outcome = await asyncio.gather(serve_incarnation(host, stop, 1.0), return_exceptions=True)

    assert host.did == did
    assert outcome == [error if isinstance(error, RuntimeError) else None]


async def test_a_lease_that_ends_while_its_host_serves_counts() -> None:
    growth, host = Growth(), Incarnation("", None)
    host.lease.lost.set()

    await serve_incarnation(cast(Any, host), asyncio.Event(), 1.0)

    assert host.did == ["start", "abandon"]
    assert growth.of("aidevos_lease_lapses_total") == 1
