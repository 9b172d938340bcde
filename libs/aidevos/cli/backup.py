"""`aidevos backup` and `aidevos restore`: copies of the fleet, and what becomes of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from typer import Argument, Option

from aidevos.cli.errors import CommandError
from aidevos.cli.output import print_json
from aidevos.cli.owner import call_fleet
from aidevos.cli.progress import Progress, command_errors, report
from aidevos.settings import Settings, load

MB = 1_000_000
Place = Annotated[str, Argument(metavar="DIR|URL", help="A folder, or a URL such as s3://bucket/prefix.")]
Json = Annotated[bool, Option("--json", help="Print the summary as JSON.")]


def backup(
    place: Place,
    recipient: Annotated[
        list[str],
        Option(metavar="AGE1…", help="Encrypt for this age recipient, instead of with AIDEVOS_BACKUP_PASSPHRASE."),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Copy the whole fleet into a folder or a bucket.

    The copy has all documents, as they are at one moment, and the keys, encrypted. It reads the MongoDB of the fleet
    under AIDEVOS_HOME.

    Example: aidevos backup /backups/today --recipient age1…
    """
    settings = load()
    if not recipient and not settings.backup_passphrase:
        raise CommandError("set AIDEVOS_BACKUP_PASSPHRASE (or …_FILE), or name a --recipient")

    from aidevos.backup.fleet_data import find_fleet
    from aidevos.backup.saving import back_up
    from aidevos.backup.storage import Storage

    os.umask(0o077)
    with command_errors(), Progress("copying") as progress:
        summary = back_up(
            find_fleet(settings),
            Storage(place, create=True),
            settings.backup_passphrase,
            recipient,
            on_total=progress.expect,
            on_copied=progress.advance,
        )
    if as_json:
        print_json(_with_rates(summary))
    else:
        _print(f"{place} has a copy of {_describe(summary)}: {summary.size / MB:.1f} MB.")
        print(f"Fingerprint: {summary.fingerprint}")


def restore(
    place: Place,
    replace: Annotated[
        bool, Option("--replace", help="Also restore into a fleet that is in use, and drop all that it has.")
    ] = False,
    identity: Annotated[
        Path | None,
        Option(metavar="FILE", help="An age identity that opens the copy, instead of AIDEVOS_BACKUP_PASSPHRASE."),
    ] = None,
    fingerprint: Annotated[str, Option(help="Accept only the copy that had this fingerprint when it was made.")] = "",
    type: Annotated[list[str], Option(help="Only the objects of this type, into a fleet in use.")] = [],  # noqa: B006
    project: Annotated[list[str], Option(help="Only this project with all that belongs to it.")] = [],  # noqa: B006
    object: Annotated[list[str], Option(metavar="TYPE:ID", help="Only this object.")] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Restore a copy, as a whole or in parts.

    A whole copy goes into the fleet under AIDEVOS_HOME, which must have just started. With --object, --type or
    --project, objects come back into one in use; only its owner may do so, over NATS.

    Example: aidevos restore /backups/today --object counter:clicks
    """
    settings = load()
    if identity is None and not settings.backup_passphrase:
        raise CommandError("set AIDEVOS_BACKUP_PASSPHRASE (or …_FILE), or name an --identity")

    from aidevos.backup.fleet_data import find_fleet
    from aidevos.backup.picking import Picked
    from aidevos.backup.storage import Storage
    from aidevos.backup.whole_fleet import restore_fleet

    os.umask(0o077)
    with command_errors(), Progress("opening the copy") as progress:
        picked, storage = Picked(type, project, object), Storage(place)
        fleet = find_fleet(settings)
        key, manifest = _open(storage, settings, identity, fingerprint)
        if not picked.all:
            report(_restore_picked(fleet, storage, key, manifest, picked, progress), "objects", as_json=as_json)
            return
        progress.expect(sum(part.documents for part in manifest.parts))
        summary = restore_fleet(
            fleet, storage, key, manifest, replace=replace, say=progress.say, on_restored=progress.advance
        )
    if as_json:
        print_json(_with_rates(summary))
    else:
        _print(f"The fleet has {_describe(summary)} of {summary.at}.")
        if not summary.running:
            print("Start its services now.")


def _restore_picked(fleet: Any, storage: Any, key: Any, manifest: Any, picked: Any, progress: Progress) -> Any:
    """Bring single objects back into the running fleet, and return the outcome."""
    from aidevos.backup.errors import BackupError
    from aidevos.backup.fleet_data import known_types
    from aidevos.backup.picking import read_picked
    from aidevos.backup.restoring import check_parts
    from aidevos.backup.stored_objects import Loading

    progress.say("checking the copy")
    check_parts(storage, picked.parts(manifest))
    progress.say("restoring")
    known = known_types(fleet)

    async def load_all(client: Any) -> Any:
        loading = Loading(client, known, on_done=progress.advance)
        await loading.run(read_picked(storage, key, manifest, picked))
        return loading.outcome

    outcome = call_fleet(load_all)
    if not outcome.total:
        raise BackupError("the copy has no such object")
    return outcome


def _open(storage: Any, settings: Settings, identity: Path | None, fingerprint: str) -> Any:
    from aidevos.backup.encryption import CopyKey
    from aidevos.backup.manifest import open_copy

    def unlock(locked: bytes) -> CopyKey:
        return CopyKey.unlock(locked, settings.backup_passphrase, identity)

    return open_copy(storage, unlock, fingerprint)


def _describe(summary: Any) -> str:
    rate = summary.bytes / MB / max(summary.seconds, 0.001)
    return (
        f"{summary.objects:,} objects ({summary.bytes / MB:.1f} MB) in {summary.seconds:.1f} s "
        f"({rate:.1f} MB/s, {summary.objects / max(summary.seconds, 0.001):,.0f} objects/s)"
    )


def _with_rates(summary: Any) -> dict[str, Any]:
    seconds = max(summary.seconds, 0.001)
    found: dict[str, Any] = msgspec.to_builtins(summary)
    rates = {"mb_per_second": summary.bytes / MB / seconds, "objects_per_second": summary.objects / seconds}
    return found | {name: round(value, 1) for name, value in rates.items()}


def _print(line: str) -> None:
    print(line)
    sys.stdout.flush()
