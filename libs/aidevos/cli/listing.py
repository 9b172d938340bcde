"""The parts that the commands for users, keys, data and the like share: paths, changes, secrets and times."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from getpass import getpass
from typing import Annotated, Any
from urllib.parse import quote

from typer import Option

from aidevos.cli.errors import CommandError
from aidevos.cli.output import Column
from aidevos.client.api import HttpApi
from aidevos.quantities import parse_time

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
# What takes a bound away.
NONE = "none"

Limit = Annotated[int, Option(min=0, metavar="NUMBER", help="The most rows; 0 for all.")]


def at(field: str) -> Column:
    """Return the column of a time, to the second."""

    def column(entry: Any) -> Any:
        moment = entry[field]
        return moment and f"{moment[:19].replace('T', ' ')}Z"

    return column


def path_of(*parts: str) -> str:
    """Return the path with these parts, such as `/users/grace`."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


async def patch(api: HttpApi, path: str, entry: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """Return the entry after a merge patch, which applies to the very version that was read."""
    return await api.call("PATCH", path, body=changes, headers=MERGE_PATCH | {"If-Match": f'"{entry["version"]}"'})


def given(**values: Any) -> dict[str, Any]:
    """Return the values of the options that were given."""
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def read_new_secret(name: str) -> str:
    """Return a secret that was asked for twice on the terminal, or the first line of standard input.

    Raises `CommandError`.
    """
    if not sys.stdin.isatty():
        secret = sys.stdin.readline().rstrip("\r\n")
    elif (secret := getpass(f"{name}: ")) != getpass(f"{name}, again: "):
        raise CommandError(f"the two texts differ: enter the same {name.lower()} twice")
    if not secret:
        raise CommandError(f"no {name.lower()} was given on standard input")
    return secret


def print_secret(secret: str, notice: str) -> None:
    """Print a secret alone, so that a script can keep it, and a notice for people beside it."""
    print(secret)
    print(notice, file=sys.stderr)


def parse_moment(text: str, option: str) -> str:
    """Return a time in RFC 3339: that which is given, or so long from now as `30d` says. Raises `CommandError`."""
    return _moment(text, option, 1.0)


def parse_past(text: str, option: str) -> str:
    """Return a time in RFC 3339: that which is given, or so long ago as `2h` says. Raises `CommandError`."""
    return _moment(text, option, -1.0)


def _moment(text: str, option: str, sign: float) -> str:
    try:
        seconds = parse_time(text)
    except ValueError:
        seconds = None
    try:
        if seconds is not None:
            return (datetime.now(UTC) + timedelta(seconds=sign * seconds)).isoformat()
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.astimezone()).isoformat()
    except (ValueError, OverflowError):
        raise CommandError(f"{option} must be a time such as 2026-12-24T18:00:00Z, or a span such as 2h") from None


def parse_span(text: str, option: str) -> float:
    """Return the seconds in a text such as `1h`. Raises `CommandError`."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise CommandError(f"{option}={text}: {error}") from None


def parse_rate(text: str, option: str) -> dict[str, Any]:
    """Return the rate limit in a text such as `100/1m`: so many requests in that time. Raises `CommandError`."""
    count, slash, window = text.partition("/")
    try:
        if not (slash and re.fullmatch("[0-9]{1,7}", count)):
            raise ValueError(text)
        return {"rate": int(count), "window": parse_time(window)}
    except ValueError:
        raise CommandError(f"{option} must be requests per time, such as 100/1m, and not {text!r}") from None
