"""`aidevos signing-keys`: show and rotate the fleet's signing keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from typer import Option, Typer

from aidevos.cli.errors import CommandError
from aidevos.cli.output import print_table
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.security import keys, service_keys
from aidevos.security.key_ring import Ring, retirements
from aidevos.settings import load

app = Typer(help="Show or rotate the keys that sign access tokens.")


@app.command("list")
def list_keys() -> None:
    """Show every key and its lifetime."""
    _show(_ring(load().home), time.time())


@app.command()
def rotate(
    now: Annotated[
        bool,
        Option("--now", help="Drop every key at once, with all tokens that they signed: for keys that have leaked."),
    ] = False,
) -> None:
    """Publish a new key, which signs once every verifier knows it."""
    settings = load()
    _ring(settings.home)
    try:
        service_keys.replace_keys(settings.home, at_once=now)
        ring = keys.replace_at_once(settings.home) if now else keys.rotate(settings.home, settings.key_notice)
    except OSError as error:
        raise CommandError(f"can't change the keys under AIDEVOS_HOME={settings.home}: {error}") from None
    _show(ring, time.time())


def _ring(home: Path) -> Ring:
    try:
        return keys.load_ring(home)
    except (OSError, ValueError) as error:
        raise CommandError(f"no signing key under AIDEVOS_HOME={home} (`make up` creates one): {error}") from None


def _show(ring: Ring, now: float) -> None:
    rows = []
    for key, retired_at in zip(ring, retirements(ring), strict=True):
        waits, retired = key.signs_from > now, retired_at is not None and retired_at <= now
        state = "waits" if waits else "retired" if retired else "signs"
        rows.append((key.id, state, _moment(key.made_at), _moment(key.signs_from), _moment(retired_at)))
    print_table(("ID", "STATE", "MADE", "SIGNS FROM", "UNTIL"), rows)


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else rfc3339(timestamp(seconds))
