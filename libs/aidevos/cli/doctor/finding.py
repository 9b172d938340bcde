"""The findings of checks of the fleet."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "skipped", "warning", "error"]


class Finding(msgspec.Struct, kw_only=True, frozen=True):
    """The result of a check, and what to do about it. `skipped` says that it couldn't be made."""

    check: str
    status: Status
    detail: str
    advice: str = ""


class Unreachable(Exception):
    """Raised if a check needs something that can't be reached; another check reports that."""


def ok(check: str, detail: str) -> Finding:
    return Finding(check=check, status="ok", detail=detail)


def warning(check: str, detail: str, advice: str) -> Finding:
    return Finding(check=check, status="warning", detail=detail, advice=advice)


def error(check: str, detail: str, advice: str) -> Finding:
    return Finding(check=check, status="error", detail=detail, advice=advice)
