"""`aidevos completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from typer import Argument


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Argument(help="The shell.")]) -> None:
    """Print the completion script of a shell.

    Example: aidevos completion bash > ~/.local/share/bash-completion/completions/aidevos

    `aidevos --install-completion` installs it for the shell that runs now.
    """
    from typer.main import get_command

    from aidevos.cli.commands import app

    os.environ["_AIDEVOS_COMPLETE"] = f"source_{shell}"
    get_command(app).main([], prog_name="aidevos")
