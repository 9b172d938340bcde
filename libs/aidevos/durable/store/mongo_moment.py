"""Reads of a collection as it was at one moment, in any number of pages.

Promise: all pages with the same moment show one snapshot, which a majority of the replica set has committed. MongoDB
keeps it for `minSnapshotHistoryWindowInSeconds`; a later page is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bson import Timestamp
from pymongo.errors import OperationFailure

from aidevos.contracts.errors import Failure

TOO_OLD, CHANGED, NOT_YET = 239, 246, 72
FORGOTTEN = (
    "MongoDB no longer has the moment that the export shows: begin it anew and, if it takes longer, raise the server's "
    "parameter minSnapshotHistoryWindowInSeconds (300 by default)"
)
_moment = re.compile(r"([0-9]{1,10})\.([0-9]{1,10})").fullmatch


def parse_moment(text: str) -> Timestamp:
    """Return the moment in a text. Raises `invalid`."""
    found = _moment(text)
    try:
        return Timestamp(*map(int, found.groups()))  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        raise _invalid() from None


def show_moment(moment: Timestamp) -> str:
    """Return a moment as text."""
    return f"{moment.time}.{moment.inc}"


def at_moment(moment: Timestamp) -> dict[str, Any]:
    """Return the read concern of the snapshot of a moment."""
    return {"readConcern": {"level": "snapshot", "atClusterTime": moment}}


@contextmanager
def explained_moments() -> Iterator[None]:
    """Turn MongoDB's errors about moments into failures: `conflict` and `invalid`."""
    try:
        yield
    except OperationFailure as error:
        if error.code in (TOO_OLD, CHANGED):
            raise Failure("conflict", FORGOTTEN, field="moment") from error
        if error.code == NOT_YET:
            raise _invalid() from error
        raise


def _invalid() -> Failure:
    return Failure("invalid", "this is no moment of an export", field="moment")
