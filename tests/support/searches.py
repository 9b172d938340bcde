"""Records the searches that are sent to MongoDB, and reads their query plans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pymongo.monitoring import CommandListener, CommandStartedEvent


class Commands(CommandListener):
    """The `find` commands that the driver sent."""

    def __init__(self) -> None:
        self.finds: list[dict[str, Any]] = []

    @property
    def find(self) -> dict[str, Any]:
        """The last one."""
        return self.finds[-1]

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "find":
            self.finds.append({key: value for key, value in event.command.items() if key in FIELDS})

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...


FIELDS = {"find", "filter", "hint", "sort", "limit", "projection", "maxTimeMS"}


def every_stage(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in (plan.get("inputStage"), *plan.get("inputStages", ())):
        if inner:
            yield from every_stage(inner)
