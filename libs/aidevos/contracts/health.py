"""How a process is, as it says itself."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["fail", "warn"]


class PartProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong with a part of a process, such as `lease` or `MongoDB`.

    It began at `since`. With `fail`, the process isn't ready; with `warn`, it is.
    """

    part: str
    detail: str
    since: str
    status: Severity = "fail"


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a process of a service at `subjects.health`. `detail` has the first problem with `fail`."""

    name: str
    replica: int
    ok: bool
    detail: str = ""
    problems: list[PartProblem] = []


class ProcessHealth(msgspec.Struct, frozen=True):
    """The answer of a process at `/health/live` and `/health/ready` on its own port."""

    ok: bool
    problems: list[PartProblem]
