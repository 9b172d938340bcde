"""Runs the objects service."""

from __future__ import annotations

from aidevos.process.service import main

from .bootstrap import TYPES

if __name__ == "__main__":
    main(TYPES, service="objects")
