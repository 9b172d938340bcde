"""A progress bar on the terminal, for commands that take a while, and their failures. Elsewhere, no bar is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from aidevos.cli.errors import INCOMPLETE, CommandError
from aidevos.cli.output import print_json


class Progress:
    """The progress of one command, on standard error. `title` says what it begins with."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
            self._bar = progress.Progress(*columns, progress.TimeElapsedColumn(), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, title: str) -> None:
        """Show what is done now."""
        if self._bar is not None:
            self._bar.update(self._task, description=title)

    def expect(self, total: int | None) -> None:
        """Show how much there is to do, if that is known."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, count: int, size: int = 0) -> None:
        """Show that so much more is done."""
        if self._bar is not None:
            self._bar.advance(self._task, count)


@contextmanager
def command_errors() -> Iterator[None]:
    """Let the failures of backups and transfers end the command with status 1."""
    from aidevos.backup.errors import BackupError

    try:
        yield
    except* BackupError as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise CommandError(str(first), 1) from None


def report(outcome: Any, things: str, *, as_json: bool, dry_run: bool = False) -> None:
    """Print what has become of objects or items. Raises `CommandError` if some have failed."""
    if as_json:
        print_json(outcome)
    else:
        for line in outcome.failures:
            print(line, file=sys.stderr)
        prefix = "would be " if dry_run else ""
        print(f"{prefix}created {outcome.created}, replaced {outcome.replaced}, skipped {outcome.skipped}")
    if outcome.failed:
        raise CommandError(f"{outcome.failed} of {outcome.total} {things} failed", INCOMPLETE)
