"""The fleet's signing keys under its home, in files that only their owner reads.

`signing.json` holds the ring with the private halves, and issuers of tokens read it. `jwks.json`
(RFC 7517) holds the public ones, and is all that a verifier reads.

Promise: at every moment, also after a crash between any two steps, `jwks.json` has every key of
`signing.json`. So whatever is signed can be verified: a new key is published before it is in the
ring, and a removed one leaves the ring first. One process at a time changes them; readers see the
files before or after a change, never half of one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aidevos.security import key_ring
from aidevos.security.key_ring import Key, Ring, SigningKey

FOLDER = "keys"
RING = "signing.json"
PUBLIC = "jwks.json"
# What binds the CSRF tokens of browser sessions; the gateway alone reads it.
CSRF = "csrf.key"


class SigningKeys:
    """The keys as an issuer follows them: a change of the file counts from the next signature on."""

    def __init__(self, home: Path) -> None:
        self._path = home / FOLDER / RING
        self._ring: Ring = ()
        self._seen: tuple[int, int] | None = None
        self._signing: dict[str, SigningKey] = {}
        self._follow()

    def at(self, moment: float) -> SigningKey:
        """The key for a signature of this moment; the same again as long as it is kept."""
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
    """The key under this home that signs now, made if there is none. Safe under concurrent first starts."""
    ring = _change(home, lambda ring: ring or key_ring.begun("first", time.time()))
    return key_ring.signer(ring, time.time()).signing


def load_signing_key(home: Path) -> SigningKey:
    """The key under this home that signs now; raises `FileNotFoundError`."""
    return key_ring.signer(load_ring(home), time.time()).signing


def load_ring(home: Path) -> Ring:
    """Every key under this home; raises `FileNotFoundError`."""
    return _read_ring(home / FOLDER / RING)


def rotate(home: Path, notice: float) -> Ring:
    """Publish a key that signs in `notice` seconds, unless one waits already."""
    return _change(home, lambda ring: key_ring.rotated(ring, "command", time.time(), notice))


def replace_at_once(home: Path) -> Ring:
    """Drop every key, with all tokens that they have signed, for a new one that signs from now on."""
    return _change(home, lambda ring: key_ring.begun("emergency", time.time()))


def tend(home: Path, age: float, notice: float) -> Ring:
    """Do what time asks for, and finish what a crash has left half done."""

    def tended(ring: Ring) -> Ring:
        now = time.time()
        return key_ring.tended(ring or key_ring.begun("first", now), now, age, notice)

    return _change(home, tended)


def keep_until(home: Path, id: str, until: float) -> None:
    """Keep a key until this moment, at which its last token expires."""
    _change(home, lambda ring: key_ring.needed(ring, id, until))


def ensure_secret(home: Path, name: str) -> bytes:
    """A secret of 32 bytes under this home, made if there is none. Safe under concurrent first starts."""
    path = _folder(home) / name
    if not path.exists():
        _publish(path, os.urandom(32))
    return path.read_bytes()


def load_public_keys(home: Path) -> dict[str, Ed25519PublicKey]:
    """Key ID → public key, from `jwks.json`; raises `FileNotFoundError`."""
    document = msgspec.json.decode(read_public_keys(home))
    return {jwk["kid"]: key_ring.public_key(jwk["x"]) for jwk in document["keys"]}


def read_public_keys(home: Path) -> bytes:
    """The key set (RFC 7517) as JSON; raises `FileNotFoundError`."""
    return (home / FOLDER / PUBLIC).read_bytes()


def write_secret(path: Path, content: bytes) -> None:
    """Replace a file atomically, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _change(home: Path, change: Callable[[Ring], Ring]) -> Ring:
    folder = _folder(home)
    with _alone(folder):
        for left in folder.glob(f".{RING}.*"):
            left.unlink()
        try:
            before = _read_ring(folder / RING)
        except FileNotFoundError:
            before = ()
        after = change(before)
        _write_public(folder, (*before, *(key for key in after if key not in before)))
        if after != before:
            write_secret(folder / RING, msgspec.json.encode(after))
            _write_public(folder, after)
        return after


def _write_public(folder: Path, ring: Ring) -> None:
    content = msgspec.json.encode({"keys": list({key.id: key.jwk for key in ring}.values())})
    path = folder / PUBLIC
    if not path.exists() or path.read_bytes() != content:
        write_secret(path, content)


def _read_ring(path: Path) -> Ring:
    return tuple(msgspec.json.decode(path.read_bytes(), type=list[Key]))


def _folder(home: Path) -> Path:
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _publish(path: Path, content: bytes) -> None:
    """Make a secret file unless another process has been faster."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    write_secret(own, content)
    with suppress(FileExistsError):
        os.link(own, path)
    own.unlink()
