"""`aidevos keys`: show and rotate the fleet's signing keys."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from aidevos.cli.errors import CommandError
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.security import keys, service_keys
from aidevos.security.key_ring import Ring, retirements
from aidevos.settings import load


def add_to(commands: Any) -> None:
    parser = commands.add_parser("keys", help="show or rotate the keys that sign access tokens")
    actions = parser.add_subparsers(required=True, metavar="action")
    actions.add_parser("list", help="show every key and its lifetime").set_defaults(run=_list)
    rotate = actions.add_parser("rotate", help="publish a new key, which signs once every verifier knows it")
    rotate.add_argument(
        "--now",
        action="store_true",
        help="drop every key at once, and all tokens that they signed: for keys that have leaked",
    )
    rotate.set_defaults(run=_rotate)


def _list(options: argparse.Namespace) -> None:
    _show(_ring(load().home), time.time())


def _rotate(options: argparse.Namespace) -> None:
    settings = load()
    _ring(settings.home)
    try:
        service_keys.replace_keys(settings.home, at_once=options.now)
        ring = keys.replace_at_once(settings.home) if options.now else keys.rotate(settings.home, settings.key_notice)
    except OSError as error:
        raise CommandError(f"can't change the keys under AIDEVOS_HOME={settings.home}: {error}") from None
    _show(ring, time.time())


def _ring(home: Path) -> Ring:
    try:
        return keys.load_ring(home)
    except (OSError, ValueError) as error:
        raise CommandError(f"no signing key under AIDEVOS_HOME={home} (`make up` creates one): {error}") from None


def _show(ring: Ring, now: float) -> None:
    row = "{:43}  {:8}  {:24}  {:24}  {}".format
    print(row("ID", "STATE", "MADE", "SIGNS FROM", "UNTIL").rstrip())
    for key, retired_at in zip(ring, retirements(ring), strict=True):
        waits, retired = key.signs_from > now, retired_at is not None and retired_at <= now
        state = "waits" if waits else "retired" if retired else "signs"
        print(row(key.id, state, _moment(key.made_at), _moment(key.signs_from), _moment(retired_at)).rstrip())


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else rfc3339(timestamp(seconds))
