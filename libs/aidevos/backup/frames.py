"""A part as a stream: a header and BSON documents, one after another, compressed.

Promise: neither side holds more than a batch in memory, and no length in a copy is trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import bson
import zstandard
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from aidevos.backup.errors import BackupError

LEVEL = 3
CHUNK = 128 * 1024
# The shortest document, and MongoDB's longest one with what the server adds.
SHORTEST, LONGEST = 5, 16 * 1024 * 1024 + 16 * 1024
MAX_WINDOW = 8 * 1024 * 1024
_length = struct.Struct("<i")


class Header(dict[str, Any]):
    """The first document of a part."""

    def __init__(self, copy: str, part: int, collection: str) -> None:
        super().__init__(copy=copy, part=part, collection=collection)


class CompressedDocuments:
    """A readable stream of a header and batches of encoded documents. It counts what it has read."""

    def __init__(self, header: Header, batches: Iterable[bytes], on_read: Callable[[int, int], None]) -> None:
        self.documents = self.bytes = 0
        self._on_read = on_read
        self._chunks = self._compress(bson.encode(header), batches)
        self._rest = b""

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _compress(self, header: bytes, batches: Iterable[bytes]) -> Iterator[bytes]:
        chunker = zstandard.ZstdCompressor(level=LEVEL).chunker(chunk_size=CHUNK)
        yield from chunker.compress(header)
        for batch in batches:
            count = count_documents(batch)
            self.documents, self.bytes = self.documents + count, self.bytes + len(batch)
            self._on_read(count, len(batch))
            yield from chunker.compress(batch)
        yield from chunker.finish()  # type: ignore[no-untyped-call]


class DocumentSink:
    """A writable stream that decompresses a part, and passes on its documents after it has checked the header."""

    def __init__(self, header: Header, take: Callable[[RawBSONDocument], None]) -> None:
        self.documents = self.bytes = 0
        self._header: Header | None = header
        self._take = take
        self._rest = bytearray()
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()

    def write(self, chunk: bytes) -> None:
        try:
            self._rest += self._decompressor.decompress(chunk)
        except zstandard.ZstdError as error:
            raise BackupError(f"a part of the copy can't be decompressed: {error}") from None
        self._split()

    def finish(self) -> None:
        """Raise `BackupError` if the part ends within a document or without a header."""
        if self._rest or self._header is not None:
            raise BackupError("a part of the copy ends too early")

    def _split(self) -> None:
        start = 0
        while len(self._rest) - start >= _length.size:
            (length,) = _length.unpack_from(self._rest, start)
            if not SHORTEST <= length <= LONGEST:
                raise BackupError("a part of the copy has a document of an impossible length")
            if len(self._rest) - start < length:
                break
            self._pass_on(bytes(self._rest[start : start + length]))
            start += length
        del self._rest[:start]

    def _pass_on(self, encoded: bytes) -> None:
        if self._header is not None:
            if _decode(encoded) != self._header:
                raise BackupError("the parts of the copy were exchanged")
            self._header = None
            return
        self.documents, self.bytes = self.documents + 1, self.bytes + len(encoded)
        try:
            self._take(RawBSONDocument(encoded))
        except BSONError as error:
            raise BackupError(f"the copy has a document that isn't BSON: {error}") from None


def count_documents(batch: bytes) -> int:
    """Return the number of documents in a batch that the server has sent."""
    count = position = 0
    while position < len(batch):
        position += _length.unpack_from(batch, position)[0]
        count += 1
    return count


def _decode(encoded: bytes) -> dict[str, Any]:
    try:
        return bson.decode(encoded)
    except BSONError as error:
        raise BackupError(f"a part of the copy has no header: {error}") from None
