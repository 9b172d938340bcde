"""Runs the worker of the built-in kinds of tasks."""

from __future__ import annotations

import sys

from aidevos.settings import SettingsError, load
from aidevos.work.process import run

from .bootstrap import GROUP, build

if __name__ == "__main__":
    try:
        settings = load()
    except SettingsError as error:
        print(f"aidevos: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    run(build(settings), settings, group=GROUP, reports_health=True)
