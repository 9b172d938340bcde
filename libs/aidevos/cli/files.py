"""Files that commands read and write; `-` stands for standard input and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aidevos.cli.arguments import STANDARD
from aidevos.cli.errors import CommandError


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file to read, or standard input for `-`. Raises `CommandError`."""
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        with Path(path).expanduser().open("rb") as file:
            yield file
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None


@contextmanager
def written(path: str) -> Iterator[BinaryIO]:
    """Open a new file that only its owner can read, or standard output for `-`. It appears at the end of the block.

    Raises `CommandError`.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    final = Path(path).expanduser()
    partial = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
        partial.replace(final)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
