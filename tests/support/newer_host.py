"""A host process of the objects in a newer version: the states of tallies have a second schema, and a type is new."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import BaseDurableObject, Service, authenticated, command, query, upcast
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.fault_objects import Ledger


class SumState(msgspec.Struct):
    total: int = 0


class NewerTally(BaseDurableObject[SumState], type="tally", schema_version=2, management="raw"):
    """A counter whose value has got another name."""

    @upcast(from_=1)
    @staticmethod
    def _rename(state: dict[str, Any]) -> dict[str, Any]:
        return {"total": state["value"]}

    @command(allow=authenticated())
    async def add(self, by: int = 1) -> int:
        self.state.total += by
        return self.state.total

    @query(allow=authenticated())
    async def value(self) -> int:
        return self.state.total


class Novelty(BaseDurableObject[SumState], type="novelty", management="raw"):
    """A type that only the newer version has."""

    @command(allow=authenticated())
    async def add(self) -> int:
        self.state.total += 1
        return self.state.total


if __name__ == "__main__":
    run(Service("objects", (NewerTally, Ledger, Novelty)), load(), reports_health=False)
