"""`python -m deploy.local up|scale|restart|down|ps|logs`: the fleet without Docker."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from aidevos.settings import SettingsError, load, replica_count

from . import launcher
from .control import FleetError, Program
from .programs import LOGS

LINES = 40


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Run the fleet without Docker.")
    parser.add_argument("command", choices=("up", "scale", "restart", "down", "ps", "logs"))
    parser.add_argument("--service", default="", help="the service to scale or restart")
    parser.add_argument("--replicas", default="", help="the number of its processes, or at `up` of each service's")
    options = parser.parse_args()
    # Only the owner may read the files that the fleet writes.
    os.umask(0o077)
    try:
        run(options.command, options.service, options.replicas)
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


def run(command: str, service: str, replicas: str) -> None:
    settings = load()
    if command == "up":
        print(launcher.up(settings, replica_count(replicas, "REPLICAS") if replicas else 1))
    elif command == "scale":
        print(launcher.scale(settings, service, replica_count(replicas, "REPLICAS")))
    elif command == "restart":
        print(launcher.restart(settings, service))
    elif command == "down":
        print(launcher.down(settings))
    elif command == "ps":
        show(launcher.ps(settings))
    else:
        follow(settings.home / LOGS)


def show(rows: list[Program]) -> None:
    print(f"{'NAME':<20}{'STATE':<12}{'PID':<10}UP")
    for row in rows:
        since = f"{int(time.time()) - row.started_at} s" if row.pid else "-"
        print(f"{row.name:<20}{row.state:<12}{row.pid or '-':<10}{since}")


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
