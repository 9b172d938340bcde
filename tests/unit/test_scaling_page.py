"""The page on scaling: its load table follows from its cost table, and it names what exists."""

from __future__ import annotations

import re

import msgspec
import pytest

from aidevos.settings import PREFIX, Settings
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/scaling.md").read_text()
# The parts of the load, by the request's row in the cost table, and the service that hosts it.
MIX = {
    "read an item": (0.7, "data_storage"),
    "command, on 1,000 objects": (0.2, "objects"),
    "create an item": (0.1, "data_storage"),
}


def table(heading: str) -> list[dict[str, str]]:
    """Return the rows of the first table under a heading, by column."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    head, _, *rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.parametrize("row", table("What saturates first"), ids=lambda row: row["load"])
def test_the_cores_of_a_load_follow_from_what_a_request_costs(row: dict[str, str]) -> None:
    costs = {each["request"]: each for each in table("What a request costs")}
    rate = int(row["requests/s"].replace(",", ""))

    def cores(process: str, host: str = "") -> str:
        used = sum(part * float(costs[name][process]) for name, (part, service) in MIX.items() if host in ("", service))
        return f"{used * rate / 1_000_000:.1f}"

    assert row["gateways"] == cores("gateway")
    assert row["data_storage"] == cores("host", "data_storage")
    assert row["objects"] == cores("host", "objects")
    assert row["mongod"] == cores("mongod")
    assert row["nats-server"] == cores("nats-server")


def test_each_setting_and_metric_that_is_named_exists() -> None:
    known = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)}
    metrics = (ROOT / "libs/aidevos/observability/metrics.py").read_text()

    assert set(re.findall(rf"{PREFIX}[A-Z_]+", PAGE)) <= known
    assert all(f'"{name}"' in metrics for name in re.findall(r"aidevos_[a-z_]+", PAGE))
