"""The command `aidevos`.

Exit status: 0 on success, 1 if the fleet couldn't be reached, 2 if the command or a setting is wrong, 130 after Ctrl-C.
A failure prints one line on standard error. A reader that has enough, such as `head`, is no failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from typer import Typer, TyperException
from typer.main import get_command

from aidevos.cli import backup, keys, logs, migrate, nats_users, objects, openapi, ps, serving, settings, tokens, types
from aidevos.cli.doctor.command import doctor
from aidevos.cli.errors import CommandError
from aidevos.settings import SettingsError

app = Typer(
    help="Self-hosted durable objects on NATS and MongoDB.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(tokens.token)
app.add_typer(tokens.app, name="tokens")
app.add_typer(keys.app, name="keys")
app.command()(nats_users.nats_user)
app.add_typer(types.app, name="types")
app.command()(openapi.openapi)
app.command()(settings.settings)
app.command()(logs.logs)
app.command()(backup.backup)
app.command()(backup.restore)
app.add_typer(objects.app, name="objects")
app.command()(ps.ps)
app.command()(doctor)
app.command()(migrate.migrate)
app.command()(serving.serve)
app.command()(serving.grant)
app.command()(serving.work)


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
    except TyperException as error:
        return _complain(f"{error.format_message().rstrip('.')}: see --help", error.exit_code)
    except SettingsError as error:
        return _complain(str(error), 2)
    except CommandError as error:
        return _complain(str(error), error.status)
    # The status of a command that Ctrl-C has ended.
    return ended if isinstance(ended, int) else 0


def _complain(line: str, status: int) -> int:
    print(f"aidevos: {line}".replace("\n", " "), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
