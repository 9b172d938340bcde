"""`aidevos fleet`: the hosts of the fleet in use, as they describe themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aidevos.cli.output import Column, Json, Watch, print_rows, repeat
from aidevos.cli.remote import call

COLUMNS: dict[str, Column] = {
    "HOST": lambda host: f"{host['service']}-{host['replica']}",
    "STATE": "state",
    "SINCE": "since",
    "VERSION": "version",
    "PARTITIONS": lambda host: sum(map(len, host["partitions"].values())),
    "OBJECTS": "objects",
    "MEMORY": lambda host: f"{host['memory'] / 1e6:.1f} MB",
    "TYPES": lambda host: sorted(host["partitions"]),
    "DETAIL": "detail",
}


def fleet(as_json: Json = False, watch: Watch = False) -> None:
    """Show the hosts of the fleet in use.

    Requires the permission fleet:read.
    """
    repeat(lambda: print_rows(find_hosts(), COLUMNS, as_json=as_json), watch=watch)


def find_hosts() -> list[Mapping[str, Any]]:
    """Return the hosts that have answered. Raises `CommandError`."""
    found: list[Mapping[str, Any]] = call(lambda api: api.call("GET", "/fleet"))["hosts"]
    return found
