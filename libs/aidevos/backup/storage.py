"""The storage of a copy: a folder, or object storage at a URL such as `s3://bucket/prefix`.

Promise: nothing passes through a temporary file. A file appears when it is complete, and only its owner can read it
in a folder. Credentials come from the variables of the storage's own tools, such as `AWS_ACCESS_KEY_ID`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from aidevos.backup.errors import BackupError

SCHEMES = ("s3", "gs", "az")
# Bytes that are sent or asked for at once, and requests of one file at a time.
CHUNK = 8 * 1024 * 1024
REQUESTS = 4
# Where machines of a cloud get credentials, which is asked if there are no others.
INSTANCE_METADATA = "169.254.169.254"
RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}


class Storage:
    """The files of one copy, at a folder or a URL."""

    def __init__(self, place: str, *, create: bool = False) -> None:
        """Open the storage. With `create`, make the folder if it is missing."""
        self.place = place
        self._folder: Path | None = None
        scheme, separator, _ = place.partition("://")
        with _translated(place):
            if not separator:
                self._folder = _find_folder(place, create=create)
                self._store: Any = LocalStore(self._folder)
            elif scheme in SCHEMES:
                self._store = from_url(place, client_options=_client_options(scheme), retry_config=RETRIES)
            else:
                raise BackupError(f"{place} must be a folder, or a URL that begins with s3://, gs:// or az://")

    def names(self) -> Iterator[str]:
        """Yield the names of all files."""
        with _translated(self.place):
            for page in obstore.list(self._store):
                yield from (file["path"] for file in page)

    def has(self, name: str) -> bool:
        """Return True if there is a file of this name."""
        with _translated(self.place):
            try:
                obstore.head(self._store, name)
            except FileNotFoundError:
                return False
            return True

    def close_to_others(self) -> None:
        """Let only the owner enter the folder, which must have no files but those of the copy."""
        if self._folder is not None:
            with _translated(self.place):
                self._folder.chmod(0o700)

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file. Raises `BackupError` if it is missing or larger than `limit` bytes."""
        with self.reader(name) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise BackupError(f"{self.place}: {name} is too large to be part of a copy")
        return bytes(content)

    def write(self, name: str, content: bytes) -> None:
        with _translated(self.place):
            obstore.put(self._store, name, content)

    def delete(self, name: str) -> None:
        with _translated(self.place):
            obstore.delete(self._store, name)

    @contextmanager
    def reader(self, name: str) -> Iterator[BinaryIO]:
        """Open a file to read it in order."""
        with _translated(self.place, name):
            yield cast(BinaryIO, _Reader(obstore.open_reader(self._store, name, buffer_size=CHUNK)))

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file, which appears at the end of the block."""
        with (
            _translated(self.place, name),
            obstore.open_writer(self._store, name, buffer_size=CHUNK, max_concurrency=REQUESTS) as file,
        ):
            yield cast(BinaryIO, file)


class _Reader:
    """A file whose reads return bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return bytes(self._file.read(size))


def _find_folder(place: str, *, create: bool) -> Path:
    folder = Path(place).expanduser().absolute()
    if create:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not folder.is_dir():
        raise BackupError(f"there is no folder {folder}")
    return folder


def _client_options(scheme: str) -> Any:
    endpoints = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    plain = scheme == "s3" and any(endpoint.startswith("http://") for endpoint in endpoints)
    return {"allow_http": True} if plain else {}


@contextmanager
def _translated(place: str, name: str = "") -> Iterator[None]:
    """Raise `BackupError` for the errors of the storage."""
    where = f"{place}: {name}" if name else place
    try:
        yield
    except FileNotFoundError:
        raise BackupError(f"{where} is missing") from None
    except FileExistsError:
        raise BackupError(f"{where} is no folder") from None
    except (BaseError, OSError, ValueError) as error:
        raise BackupError(f"{where}: {_explain(error)}") from None


def _explain(error: BaseException) -> str:
    """Return what an error says in one line, without the library's dump of its source and the server's XML."""
    text = str(error).partition("\n\nDebug source")[0].replace("\n", " ").strip()
    if INSTANCE_METADATA in text:
        return "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    head, _, answer = text.partition(": <")
    message = re.search("<Message>([^<]*)</Message>", answer)
    return f"{head}: {message[1]}" if message else head or repr(error)
