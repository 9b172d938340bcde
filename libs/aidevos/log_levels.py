"""The levels of loggers, as a text such as `INFO,aidevos.durable.turns=DEBUG` has them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# The name of the logger that all others inherit their level from.
ROOT = ""


def parse_levels(text: str) -> dict[str, str]:
    """Return the level of each logger that the text names; the root's is `INFO` unless it has another one.

    Raises `ValueError` for an unknown level, or for a logger of this package that doesn't exist.
    """
    levels = {ROOT: "INFO"}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, level = (part.strip() for part in entry.rpartition("="))
        if equals and not name:
            raise ValueError(f"{entry!r} names no logger")
        if level.upper() not in LEVELS:
            raise ValueError(f"{level!r} isn't a level{_suggest(level.upper(), LEVELS)}")
        _check_exists(name)
        levels[name] = level.upper()
    return levels


def _check_exists(logger: str) -> None:
    """Raise `ValueError` for a misspelt module of this package. Any other logger may be a library's."""
    package, *names = logger.split(".")
    if package != __package__:
        return
    folder = Path(__file__).parent
    for name in names:
        known = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
        if name not in known:
            raise ValueError(f"there is no logger {logger!r}{_suggest(name, known)}")
        folder /= name


def _suggest(name: str, known: Iterable[str]) -> str:
    known = [each for each in known if not each.startswith("_")]
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(sorted(known))}"
