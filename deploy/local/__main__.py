"""`python -m deploy.local up|down|ps|logs`: the fleet without Docker."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from aidevos.settings import SettingsError, load

from . import launcher
from .control import FleetError, Program
from .programs import LOGS

LINES = 40


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Run the fleet without Docker.")
    parser.add_argument("command", choices=("up", "down", "ps", "logs"))
    command = parser.parse_args().command
    # Only the owner may read the files that the fleet writes.
    os.umask(0o077)
    try:
        settings = load()
        if command == "up":
            print(launcher.up(settings))
        elif command == "down":
            print(launcher.down(settings))
        elif command == "ps":
            show(launcher.ps(settings))
        else:
            follow(settings.home / LOGS)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has all that it wants. Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (FleetError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def show(rows: list[Program]) -> None:
    print(f"{'NAME':<16}{'STATE':<12}{'PID':<10}UP")
    for row in rows:
        since = f"{int(time.time()) - row.started_at} s" if row.pid else "-"
        print(f"{row.name:<16}{row.state:<12}{row.pid or '-':<10}{since}")


def follow(folder: Path) -> None:
    """Show the end of every log and, on a terminal, every line that follows. Raises `FleetError` without logs."""
    logs = sorted(str(path) for path in folder.glob("*.log"))
    if not logs:
        raise FleetError(f"there are no logs under {folder}")
    options = ["-F"] if sys.stdout.isatty() else []
    # Python ignores SIGPIPE. With its default action, `tail` ends quietly when its reader does.
    tail = ["tail", "-n", str(LINES), *options, *logs]
    status = subprocess.run(tail, restore_signals=True).returncode  # noqa: S603
    if status not in (0, -signal.SIGPIPE):
        raise FleetError(f"tail ended with status {status}")


if __name__ == "__main__":
    sys.exit(main())
