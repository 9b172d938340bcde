"""The memory that the process has freed.

The GNU C library keeps most of it for later, however much that is.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return free memory to the system, where the C library can do that.

    It takes about 0.1 s per GB, for which other threads may have to wait.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
