"""The fleet's signing keys under its home, in files that only their owner can read.

`keys/signing.json` holds the ring with the private halves; only the issuer of users' tokens needs it.
`public/jwks.json` (RFC 7517) holds the public halves; verifiers read only this.

Promise: at any time, even after a crash between two steps, `jwks.json` contains every key of
`signing.json`, so every signature can be verified. A new key is published before it enters the ring,
and a removed key leaves the ring first. Only one process at a time changes the files; readers see them
before or after a change, never half of one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aidevos.security import key_ring
from aidevos.security.key_ring import Key, Ring, SigningKey
from aidevos.security.secret_files import lock, write_secret

FOLDER = "keys"
RING = "signing.json"
PUBLIC = "jwks.json"
# What verifiers read is apart from all secrets, so that a process can be given it alone.
PUBLIC_FOLDER = "public"
# The secret behind the CSRF tokens of browser sessions; only the gateway reads it.
CSRF = "csrf.key"


class SigningKeys:
    """The keys as an issuer follows them: a change of the file takes effect at the next signature."""

    def __init__(self, home: Path) -> None:
        self._path = home / FOLDER / RING
        self._ring: Ring = ()
        self._seen: tuple[int, int] | None = None
        self._signing: dict[str, SigningKey] = {}
        self._follow()

    def at(self, moment: float) -> SigningKey:
        """Return the key for a signature at this time; it is the same object as long as the key is kept."""
        self._follow()
        return self._signing[key_ring.signer(self._ring, moment).id]

    def _follow(self) -> None:
        status = self._path.stat()
        found = (status.st_ino, status.st_mtime_ns)
        if found != self._seen:
            self._ring = _read_ring(self._path)
            self._signing = {key.id: key.signing for key in self._ring if key.private}
            self._seen = found


def ensure_signing_key(home: Path) -> SigningKey:
    """Return the key under `home` that signs now, creating one if needed. Safe under concurrent first starts."""
    ring = _change(home, lambda ring: ring or key_ring.new_ring("first", time.time()))
    return key_ring.signer(ring, time.time()).signing


def load_signing_key(home: Path) -> SigningKey:
    """Return the key under `home` that signs now. Raises `FileNotFoundError`."""
    return key_ring.signer(load_ring(home), time.time()).signing


def load_ring(home: Path) -> Ring:
    """Return all keys under `home`. Raises `FileNotFoundError`."""
    return _read_ring(home / FOLDER / RING)


def rotate(home: Path, notice: float) -> Ring:
    """Publish a key that signs in `notice` seconds, unless one is already waiting; return the ring."""
    return _change(home, lambda ring: key_ring.rotate(ring, "command", time.time(), notice))


def replace_at_once(home: Path) -> Ring:
    """Drop every key, and so all tokens that they signed, for a new key that signs from now on."""
    return _change(home, lambda ring: key_ring.new_ring("emergency", time.time()))


def replace_ring(home: Path, ring: Ring) -> None:
    """Replace every key by those of another fleet's ring."""
    _change(home, lambda _: ring)


def maintain(home: Path, age: float, notice: float) -> Ring:
    """Make all changes that are due, and finish a change that a crash interrupted; return the ring."""

    def change(ring: Ring) -> Ring:
        now = time.time()
        return key_ring.maintain(ring or key_ring.new_ring("first", now), now, age, notice)

    return _change(home, change)


def keep_until(home: Path, id: str, until: float) -> None:
    """Keep a key until this time, at which its last token expires."""
    _change(home, lambda ring: key_ring.keep_until(ring, id, until))


def ensure_secret(home: Path, name: str) -> bytes:
    """Return a secret of 32 bytes under `home`, creating it if needed. Safe under concurrent first starts."""
    path = _folder(home) / name
    if not path.exists():
        _create_secret(path, os.urandom(32))
    return path.read_bytes()


def load_public_keys(home: Path) -> dict[str, Ed25519PublicKey]:
    """Return a map from key ID to public key, from `jwks.json`. Raises `FileNotFoundError`."""
    document = msgspec.json.decode(read_public_keys(home))
    return {jwk["kid"]: key_ring.public_key(jwk["x"]) for jwk in document["keys"]}


def read_public_keys(home: Path) -> bytes:
    """Return the key set (RFC 7517) as JSON. Raises `FileNotFoundError`."""
    return (home / PUBLIC_FOLDER / PUBLIC).read_bytes()


def _change(home: Path, change: Callable[[Ring], Ring]) -> Ring:
    folder = _folder(home)
    with lock(folder):
        for leftover in folder.glob(f".{RING}.*"):
            leftover.unlink()
        try:
            before = _read_ring(folder / RING)
        except FileNotFoundError:
            before = ()
        after = change(before)
        _write_public(home, (*before, *(key for key in after if key not in before)))
        if after != before:
            write_secret(folder / RING, msgspec.json.encode(after))
            _write_public(home, after)
        return after


def _write_public(home: Path, ring: Ring) -> None:
    content = msgspec.json.encode({"keys": list({key.id: key.jwk for key in ring}.values())})
    path = home / PUBLIC_FOLDER / PUBLIC
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != content:
        write_secret(path, content)


def _read_ring(path: Path) -> Ring:
    return tuple(msgspec.json.decode(path.read_bytes(), type=list[Key]))


def _folder(home: Path) -> Path:
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _create_secret(path: Path, content: bytes) -> None:
    """Create a secret file unless another process was faster."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    write_secret(own, content)
    with suppress(FileExistsError):
        os.link(own, path)
    own.unlink()
