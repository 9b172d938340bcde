"""The history of objects, as the author of their type declares it and reaches it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

from aidevos.contracts.objects import ObjectVersion
from aidevos.quantities import parse_time

COUNT_LIMIT = 10_000
AGE_LIMIT = 10 * 366 * 86_400.0
Option: TypeAlias = "int | str | tuple[int, str]"


class Kept(NamedTuple):
    """The versions that a type keeps: the newest `most`, and of these the ones made in the last `age` seconds."""

    most: int = COUNT_LIMIT
    age: float | None = None


class Versions(Protocol):
    """The kept versions of the object whose turn is running. Methods raise `Failure`."""

    async def list(self, before: int | None = None, limit: int = 50) -> list[ObjectVersion]:
        """Return versions below `before`, or all of them, the newest first and without their states."""
        ...

    async def describe(self, version: int) -> ObjectVersion:
        """Return one version without its state. Raises `not-found`."""
        ...

    async def read(self, version: int) -> Any:
        """Return the state of a version, upcast to today's schema.

        Raises `not-found` for a version that isn't kept, and `conflict` for a deletion or a state that today's type
        can't read.
        """
        ...

    async def restore(self, version: int) -> None:
        """Make the state of a version the object's state. Only a command may do this. Raises like `read`.

        A deleted object exists again, and its history goes on.
        """
        ...

    async def forget(self) -> None:
        """Erase all versions before this turn, to remove personal data. Only a command may do this.

        What was moved out of the document is erased at once, even if the turn fails later.
        """
        ...


def parse_history(option: Option | None, name: str) -> Kept | None:
    """Return what the class option `history` of the class `name` asks for. Raises `TypeError`."""
    if option is None:
        return None
    parts = option if isinstance(option, tuple) else (option,)
    kept = Kept()
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | str):
            raise _wrong(name, option)
        kept = kept._replace(most=part) if isinstance(part, int) else kept._replace(age=_parse_age(part, name))
    if len(parts) > 2 or (len(parts) == 2 and [type(part) for part in parts] != [int, str]):
        raise _wrong(name, option)
    if not 1 <= kept.most <= COUNT_LIMIT:
        raise TypeError(f"{name}: history keeps 1 to {COUNT_LIMIT} versions, not {kept.most}")
    return kept


def _parse_age(text: str, name: str) -> float:
    try:
        age = parse_time(text)
    except ValueError as error:
        raise TypeError(f"{name}: the age {text!r} in history can't be read: {error}") from None
    if not 0 < age <= AGE_LIMIT:
        raise TypeError(f"{name}: history keeps versions for up to 10 years, not {text!r}")
    return age


def _wrong(name: str, option: object) -> TypeError:
    return TypeError(f'{name}: history is a number of versions, an age, or both, as in (100, "30d"), not {option!r}')
