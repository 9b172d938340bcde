"""Calls of the fleet in use over HTTP: it makes no difference whether it is on this machine or elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from aidevos.cli.errors import CONFLICT, NOT_FOUND, UNAUTHORISED, UNREACHABLE, WRONG, CommandError
from aidevos.cli.target import TOKEN, Target, find_target
from aidevos.client.api import DEADLINE, HttpApi
from aidevos.client.errors import ApiError, Unreachable

T = TypeVar("T")
# The most items of a page.
PAGE = 500
STATUSES = {401: UNAUTHORISED, 403: UNAUTHORISED, 404: NOT_FOUND, 409: CONFLICT, 412: CONFLICT, 428: CONFLICT}
UNAUTHENTICATED = 401


def call(work: Callable[[HttpApi], Awaitable[T]], *, deadline: float = DEADLINE, target: Target | None = None) -> T:
    """Return the result of work with the API of a fleet, by default of the one in use.

    Each request has `deadline` seconds. A failure raises `CommandError` with its exit status, and a wrong setting
    `SettingsError`.
    """
    target = target or find_target()

    async def run() -> T:
        try:
            api = HttpApi(target.url, token=target.token, deadline=deadline)
        except ValueError as error:
            raise CommandError(str(error)) from None
        async with api:
            return await work(api)

    try:
        return asyncio.run(run())
    except Unreachable as error:
        raise CommandError(f"the fleet can't be reached: {error.detail}", UNREACHABLE) from None
    except ApiError as error:
        raise CommandError(_describe(error, target), status_of(error)) from None
    except msgspec.DecodeError:
        raise CommandError(f"the answer of {target.url} isn't that of a fleet") from None


async def read_all(api: HttpApi, path: str, *, params: Mapping[str, Any] | None = None, limit: int = 0) -> list[Any]:
    """Return the items of a list, at most `limit` of them if it isn't 0. Raises `ApiError`."""
    wanted = {**(params or {}), "limit": min(limit or PAGE, PAGE)}
    items: list[Any] = []
    left_out: list[str] = []
    async for page in api.pages(path, params=wanted):
        items += page["items"]
        left_out += page.get("left_out", [])
        if limit and len(items) >= limit:
            break
    warn_of_missing(left_out)
    return items[: limit or None]


def warn_of_missing(types: list[str]) -> None:
    """Say on standard error which types are missing from a list or a count."""
    if types:
        print(f"Objects are missing, because no process serves their types: {', '.join(types)}.", file=sys.stderr)


def status_of(error: ApiError) -> int:
    """Return the exit status of a failure."""
    if error.retryable or error.status >= 500:
        return UNREACHABLE
    return STATUSES.get(error.status, WRONG)


def _describe(error: ApiError, target: Target) -> str:
    field = f"{error.field}: " if error.field and error.field not in error.detail else ""
    line = f"{error.code}: {field}{error.detail}"
    if error.status == UNAUTHENTICATED:
        line += f" (run `aidevos login {target.url}`, or set {TOKEN})"
    return line
