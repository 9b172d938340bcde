"""`python -m deploy.local up|scale|restart|down|ps`: the fleet without Docker."""

from __future__ import annotations

import argparse
import os
import sys

from aidevos.cli import ps
from aidevos.cli.errors import CommandError
from aidevos.settings import SettingsError, load, replica_count

from . import launcher
from .control import FleetError


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Run the fleet without Docker.")
    parser.add_argument("command", choices=("up", "scale", "restart", "down", "ps"))
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
    except (FleetError, CommandError, OSError) as error:
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
    else:
        ps.show(settings.home)


if __name__ == "__main__":
    sys.exit(main())
