"""Runs the data service."""

from __future__ import annotations

from aidevos.process.service import main

from .bootstrap import SERVICE, build
from .expiry import remove_expired

if __name__ == "__main__":
    main(build, service=SERVICE, chore=remove_expired)
