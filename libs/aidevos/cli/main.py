"""The entry of the command `aidevos`.

Promise: a user's mistake prints one line on standard error, and no traceback. A reader that has enough, such as `head`,
is no failure. `errors.py` has the exit statuses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from typer import Abort, TyperException
from typer.main import get_command

from aidevos.cli.commands import app

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        ended = get_command(app).main([*arguments] or ["--help"], prog_name="aidevos", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as exit:
        # Typer's own for a broken pipe. It has seen to the rest of the output.
        if isinstance(exit.__context__, BrokenPipeError):
            return 0
        raise
    except Abort:
        return INTERRUPTED
    except TyperException as error:
        return _complain(_describe(error), error.exit_code)
    except Exception as error:
        status = _status_of(error)
        if status is None:
            raise
        return _complain(str(error), status)
    # The status of a command that Ctrl-C has ended.
    return ended if isinstance(ended, int) else 0


def _describe(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "aidevos"
    return f"{error.format_message().rstrip('.')}; see `{command} --help`"


def _status_of(error: Exception) -> int | None:
    """Return the exit status of a user's mistake, or None for any other failure."""
    from aidevos.cli.errors import WRONG, CommandError
    from aidevos.variables import SettingsError

    if isinstance(error, CommandError):
        return error.status
    return WRONG if isinstance(error, SettingsError) else None


def _complain(line: str, status: int) -> int:
    from aidevos.cli.output import printable

    print(printable(f"aidevos: {line}".replace("\n", " ")), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
