"""Runs the user management service."""

from __future__ import annotations

from aidevos.process.service import main

from .bootstrap import SERVICE, build, install

if __name__ == "__main__":
    main(build, service=SERVICE, prepare=install)
