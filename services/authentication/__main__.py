"""Runs the authentication service."""

from __future__ import annotations

from aidevos.process.service import main

from .bootstrap import SERVICE, build, tend

if __name__ == "__main__":
    main(build, service=SERVICE, chore=tend)
