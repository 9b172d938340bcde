"""The encryption of a copy, with age (https://age-encryption.org/v1).

Promise: whoever has the storage, but neither the passphrase nor the identity of the owner, can read nothing of a copy,
and change nothing of it without being noticed.

A copy has an X25519 identity of its own, to which all its files are encrypted, in streams. That identity is encrypted
with the owner's passphrase, or for the owner's recipients, and its public half is stored nowhere. The manifest carries
a MAC whose key is derived from the identity, and the hashes of all other files.

A passphrase also proves who made the copy. A recipient doesn't: whoever knows it can make a copy for it. The copy's ID,
which the owner may keep elsewhere, tells the two apart.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyrage
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aidevos.backup.errors import BackupError

MAC_SIZE = 32
# An encrypted identity for many recipients is still smaller.
IDENTITY_LIMIT = 1024 * 1024


class CopyKey:
    """The identity of one copy."""

    def __init__(self, identity: Any) -> None:
        self._identity = identity
        derived = HKDF(SHA256(), 32, salt=None, info=b"aidevos backup manifest")
        self._mac_key = derived.derive(str(identity).encode())

    @classmethod
    def generate(cls) -> CopyKey:
        return cls(pyrage.x25519.Identity.generate())

    @classmethod
    def unlock(cls, locked: bytes, passphrase: str, identity_file: Path | None) -> CopyKey:
        """Decrypt the identity of a copy. Raises `BackupError` for another passphrase or identity."""
        try:
            if identity_file is not None:
                opened = pyrage.decrypt(locked, _read_identities(identity_file))
            else:
                opened = pyrage.passphrase.decrypt(locked, passphrase)
            return cls(pyrage.x25519.Identity.from_str(opened.decode()))
        except (pyrage.DecryptError, pyrage.IdentityError, UnicodeDecodeError):
            tried = "--identity" if identity_file is not None else "AIDEVOS_BACKUP_PASSPHRASE"
            raise BackupError(f"the copy can't be opened with this {tried}, or its identity is damaged") from None

    def lock(self, passphrase: str, recipients: Sequence[str]) -> bytes:
        """Return the identity, encrypted for these recipients or, without any, with the passphrase."""
        secret = str(self._identity).encode()
        locked: bytes
        if not recipients:
            locked = pyrage.passphrase.encrypt(secret, passphrase)
            return locked
        try:
            locked = pyrage.encrypt(secret, [pyrage.x25519.Recipient.from_str(each) for each in recipients])
        except pyrage.RecipientError as error:
            raise BackupError(f"--recipient must be like age1…: {error}") from None
        return locked

    def encrypt(self, source: Any, target: Any) -> None:
        """Encrypt a stream. What `source.read` and `target.write` raise passes through."""
        reader, writer = _Noting(source), _Noting(target)
        try:
            pyrage.encrypt_io(reader, writer, [self._identity.to_public()])
        except (pyrage.EncryptError, OSError) as error:
            raise reader.error or writer.error or error from None

    def decrypt(self, source: Any, target: Any) -> None:
        """Decrypt a stream. What `source.read` and `target.write` raise passes through.

        Raises `BackupError` for a file of another copy, or one that was changed or cut off. By then, `target` may have
        got what came before.
        """
        reader, writer = _Noting(source), _Noting(target)
        try:
            pyrage.decrypt_io(reader, writer, [self._identity])
        except (pyrage.DecryptError, OSError) as error:
            if raised := reader.error or writer.error:
                raise raised from None
            raise BackupError(f"a file of the copy was changed, or belongs to another copy: {error}") from None

    def sign(self, content: bytes) -> bytes:
        """Return the content behind its MAC."""
        return hmac.digest(self._mac_key, content, "sha256") + content

    def verify(self, signed: bytes) -> bytes:
        """Return the content that was signed. Raises `BackupError`."""
        mac, content = signed[:MAC_SIZE], signed[MAC_SIZE:]
        if not hmac.compare_digest(mac, hmac.digest(self._mac_key, content, "sha256")):
            raise BackupError("the manifest of the copy was changed")
        return content


class _Noting:
    """A stream that notes what its reads and writes raise, which the library replaces by errors of its own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            found: bytes = self._stream.read(size)
        except BaseException as error:
            self.error = error
            raise
        return found

    def write(self, chunk: bytes) -> int:
        try:
            self._stream.write(chunk)
        except BaseException as error:
            self.error = error
            raise
        return len(chunk)

    def flush(self) -> None:
        """Do nothing: the stream below is flushed at its end."""


class HashedWriter:
    """A stream that counts and hashes what passes to another one."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)
        self._write(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class HashedReader:
    """A stream that counts and hashes what is read from another one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._hash.update(chunk)
        self.size += len(chunk)
        return chunk

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _read_identities(file: Path) -> list[Any]:
    """Return the identities in a file as `age-keygen` writes it. Raises `BackupError`."""
    try:
        lines = file.expanduser().read_text().splitlines()
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return [pyrage.x25519.Identity.from_str(line) for line in found]
    except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
        raise BackupError(f"--identity {file} can't be read: {error}") from None
