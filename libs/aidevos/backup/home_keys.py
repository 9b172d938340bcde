"""The keys under a home that a copy has: those without which stored data, sessions, links or API keys are worthless.

Keys of services are not among them, nor passwords of servers: each fleet has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from aidevos.backup.errors import BackupError
from aidevos.security.fleet_secrets import SECRETS_FILE, load_secrets
from aidevos.security.key_ring import Key
from aidevos.security.keys import FOLDER, RING, replace_ring
from aidevos.security.sealed import FILE as SEALING
from aidevos.security.sealed import split_keys
from aidevos.security.secret_files import write_secret

# In containers, each service has a home of its own below the owner's.
HOMES = "homes"
SECRETS = ("refresh.key", "links.key", "api_keys.key", "csrf.key", "cursors")
KEYS = (RING, SEALING, *SECRETS)
LIMIT = 64 * 1024


def read_keys(home: Path) -> dict[str, bytes]:
    """Return the keys by the names of their files. Raises `BackupError` if the home has none."""
    found = {}
    for name in KEYS:
        contents = [path.read_bytes() for path in _places(home, name) if path.exists()]
        if contents:
            found[name] = _join(contents) if name == SEALING else contents[0]
    if RING not in found:
        raise BackupError(f"AIDEVOS_HOME={home} has no keys: it is no home of a fleet, or another one's")
    return found


def check_keys(keys: Mapping[str, bytes]) -> None:
    """Raise `BackupError` for keys that a fleet can't use."""
    for name, content in keys.items():
        if name not in KEYS or not 0 < len(content) <= LIMIT:
            raise BackupError(f"the copy has a key {name[:80]!r} that no fleet has")
    try:
        _ring(keys)
        split_keys(keys.get(SEALING, b""))
    except (KeyError, ValueError) as error:
        raise BackupError(f"the keys of the copy can't be used: {error}") from None


def write_keys(home: Path, keys: Mapping[str, bytes], admin_password: str) -> None:
    """Replace the keys of the fleet under this home, and what it shows as its administrator's password."""
    replace_ring(home, _ring(keys))
    for name, content in keys.items():
        if name != RING:
            existing = [path for path in _places(home, name) if path.exists()]
            for path in existing or [home / FOLDER / name]:
                write_secret(path, content)
    secrets = msgspec.structs.replace(load_secrets(home), admin_password=admin_password)
    write_secret(home / SECRETS_FILE, msgspec.json.encode(secrets))


def _places(home: Path, name: str) -> list[Path]:
    return [home / FOLDER / name, *sorted(home.glob(f"{HOMES}/*/{FOLDER}/{name}"))]


def _join(contents: Iterable[bytes]) -> bytes:
    """Return all sealing keys, each once. In containers, services may have different ones."""
    return b"".join(dict.fromkeys(key for content in contents for key in split_keys(content)))


def _ring(keys: Mapping[str, bytes]) -> tuple[Key, ...]:
    ring = tuple(msgspec.json.decode(keys[RING], type=list[Key]))
    if not any(key.private for key in ring):
        raise ValueError("no key can sign")
    return ring
