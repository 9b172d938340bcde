"""Paths in the repository, and temporary folders for tests."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"

MEMORY = Path("/dev/shm")
# Bytes that each test process leaves free for the others.
ROOM = 1024**3


def temporary_root() -> Path:
    """Return memory if it has room. Tests kill servers but never the machine, so they need no disk."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    return MEMORY if in_memory else Path(tempfile.gettempdir())


def temporary_folder(name: str) -> Path:
    """Make a folder, in memory if there is room."""
    return Path(tempfile.mkdtemp(prefix=f"aidevos-{name}-", dir=temporary_root()))
