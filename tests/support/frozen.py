"""To be imported last by a process that is forked: what it has loaded is garbage of none of its children, which
neither look at it nor copy its pages."""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
