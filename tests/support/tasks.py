"""Helpers that create tasks over HTTP and wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from tests.support.people import Person, made

PATCH = {"Content-Type": "application/merge-patch+json"}
ENDED = ("succeeded", "failed", "cancelled")


async def project_of(http: httpx2.AsyncClient, who: Person) -> str:
    return str((await made(http, "/projects", who, name="Engine"))["id"])


async def queue(http: httpx2.AsyncClient, project: str, who: Person, kind: str, payload: Any, **plan: Any) -> str:
    """Create a task and return its ID."""
    body = {"kind": kind, "payload": payload, "retry": {"max_attempts": 1}, **plan}
    return str((await made(http, f"/projects/{project}/tasks", who, **body))["id"])


async def shown(http: httpx2.AsyncClient, task: str, who: Person) -> Any:
    answer = await http.get(f"/tasks/{task}", headers=who.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(http: httpx2.AsyncClient, task: str, who: Person, *statuses: str, within: float = 30.0) -> Any:
    """Return the task once it has one of these statuses, by default once it has ended; `within` is in seconds."""
    found: Any = None
    try:
        async with asyncio.timeout(within):
            while (found := await shown(http, task, who))["status"] not in (statuses or ENDED):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"the task stays {found}") from None
    return found


async def done(http: httpx2.AsyncClient, project: str, who: Person, kind: str, payload: Any, **plan: Any) -> Any:
    """Create a task and return it once it has ended."""
    return await until(http, await queue(http, project, who, kind, payload, **plan), who)
