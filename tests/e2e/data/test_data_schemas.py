"""The official tests of JSON Schema 2020-12 over HTTP: each schema is a collection's, each value an item.

All groups run, except for those that `json_schema_suite` lists because they need another document; their schemas
must be refused.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httpx2
import pytest

from tests.support.data_collections import headers_of
from tests.support.json_schema_suite import Group, groups
from tests.support.world import World

AT_ONCE = 16


@pytest.mark.timeout(240)
async def test_schemas_mean_what_the_standards_own_tests_say_over_http(http: httpx2.AsyncClient, world: World) -> None:
    ada, free = headers_of(world, "ada"), asyncio.Semaphore(AT_ONCE)
    prefix = f"s{secrets.token_hex(4)}"

    async def wrong(number: int, group: Group) -> list[str]:
        async with free:
            return await differences(http, ada, f"{prefix}-{number}", group)

    suite = groups()
    found = await asyncio.gather(*(wrong(number, group) for number, group in enumerate(suite)))
    told = [difference for each in found for difference in each]

    assert told == []
    assert sum(len(group.tests) for group in suite if not group.remote) > 1200


async def differences(http: httpx2.AsyncClient, ada: dict[str, str], name: str, group: Group) -> list[str]:
    """Return the deviations from a schema's tests; a schema that needs another document must be refused."""
    where = f"{group.file}: {group.description}"
    config = await http.put(f"/{name}", headers=ada, json={"schema": group.schema})
    if group.remote:
        return [] if config.status_code == 422 else [f"{where}: {config.status_code}"]
    if config.status_code != 201:
        return [f"{where}: {config.text}"]
    items = [{"data": test["data"]} for test in group.tests]
    results = (await http.post(f"/{name}", headers=ada, json=items)).json()["results"]
    return [
        f"{where}: {test['description']}: {result}"
        for test, result in zip(group.tests, results, strict=True)
        if result["status"] != (201 if test["valid"] else 422) or not _names_the_place(result)
    ]


def _names_the_place(result: dict[str, Any]) -> bool:
    return result["status"] == 201 or result["problem"]["field"].startswith("data")
