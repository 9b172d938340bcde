"""Where things are in the repository, and where tests put theirs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"

MEMORY = Path("/dev/shm")
# What each process of tests leaves free for the others.
ROOM = 1024**3


def temporary_folder(name: str) -> Path:
    """Make a folder, in memory if there is room: tests kill servers, never the machine, so no disk is needed."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    return Path(tempfile.mkdtemp(prefix=f"aidevos-{name}-", dir=MEMORY if in_memory else None))
