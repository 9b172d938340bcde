"""Reading a request's body: bounded while it arrives, then decoded into a contract's struct."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar, get_args

import msgspec
from starlette.types import Receive

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.contracts.field_errors import add_errors, locate

T = TypeVar("T")
MERGE_PATCH = "application/merge-patch+json"
NDJSON = "application/x-ndjson"
JSON_PATCH = "application/json-patch+json"
NAME_LIMIT = 200
BODY_WITHIN = 60.0
_media_type = re.compile(r'application/json[ \t]*(;[ \t]*charset="?utf-8"?[ \t]*)?', re.IGNORECASE).fullmatch


class UnsupportedPatch(Failure):
    """Raised for a patch of another kind (415); `accepted` lists the accepted media types."""

    def __init__(self, accepted: Sequence[str]) -> None:
        self.accepted = ", ".join(accepted)
        super().__init__("unsupported-media-type", f"send {' or '.join(accepted)}", field="Content-Type")


def media_type_of(headers: dict[bytes, bytes]) -> str:
    """Return the body's media type without parameters, or an empty string if the header is missing."""
    return headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


def check_media_type(headers: dict[bytes, bytes], patches: Sequence[str] = ()) -> None:
    """Raise `unsupported-media-type` unless the body is JSON or, with `patches`, one of these kinds.

    A body without a content type counts as JSON. A patch must name its media type (RFC 5789). Content
    encodings are refused.
    """
    media_type = headers.get(b"content-type")
    if patches:
        if media_type_of(headers) not in patches:
            raise UnsupportedPatch(patches)
        media_type = None
    if media_type is not None and media_type != b"application/json" and not _media_type(media_type.decode("latin-1")):
        raise Failure("unsupported-media-type", f"send {envelope.JSON}", field="Content-Type")
    _check_encoding(headers)


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Failure("unsupported-media-type", "send the body without a content encoding", field="Content-Encoding")


async def read(headers: dict[bytes, bytes], receive: Receive, limit: int, *, has_arrived: bool = False) -> bytes:
    """Return the whole body. Raises `too-large` as soon as it exceeds `limit` bytes.

    Nothing waits for a body that `has_arrived`.
    """
    if has_arrived:
        return await _read(headers, receive, limit)
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return await _read(headers, receive, limit)
    except TimeoutError:
        raise Failure("bad-request", "the body took too long to arrive", field="body", status=408) from None


async def _read(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    check_length(headers, limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks, size = [body], len(body)
        while message.get("more_body") and size <= limit:
            message = await receive()
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        body = b"".join(chunks)
    if len(body) > limit:
        raise _too_large(limit)
    if message["type"] == "http.disconnect":
        raise Failure("bad-request", "the body ended before it was complete")
    return body


def check_lines_type(headers: dict[bytes, bytes]) -> None:
    """Raise `unsupported-media-type` unless the body is NDJSON or has no content type."""
    if media_type_of(headers) not in ("", NDJSON, "application/jsonl"):
        raise Failure("unsupported-media-type", f"send {NDJSON}", field="Content-Type")
    _check_encoding(headers)


def check_length(headers: dict[bytes, bytes], limit: int) -> None:
    """Raise `too-large` if the body announces that it has more than `limit` bytes."""
    length = headers.get(b"content-length")
    if length is not None and int(length) > limit:
        raise _too_large(limit)


async def lines(receive: Receive, line_limit: int, limit: int) -> AsyncIterator[bytes]:
    """Yield the lines of a body, including empty ones.

    Raises `too-large` if a line exceeds `line_limit` bytes or the body exceeds `limit`.
    """
    rest, size, more = b"", 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Failure("bad-request", "the body ended before it was complete")
        more = message.get("more_body", False)
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > line_limit:
            raise Failure("too-large", f"a line can have at most {line_limit} bytes", field="body")
    if rest:
        yield rest


def decode(decoder: msgspec.json.Decoder[T], body: bytes, deepest: str) -> T:
    """Return the struct in a body; `deepest` names the field that callers may nest, for errors."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, decoder.type, body) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure("bad-request", f"the body isn't valid JSON: {error}"[: 2 * NAME_LIMIT], field="body") from None
    except RecursionError:
        raise Failure("invalid", "the value is nested too deeply", field=deepest) from None


def find_nested_field(type: Any) -> str:
    """Return the name of the field whose content callers may nest, or `body` if there is none."""
    fields = msgspec.structs.fields(type) if hasattr(type, "__struct_fields__") else ()
    return next((field.encode_name for field in fields if _nests_freely(field.type)), "body")


def _nests_freely(type: Any) -> bool:
    return type in (Any, msgspec.Raw) or any(map(_nests_freely, get_args(type)))


def _invalid(error: msgspec.ValidationError, type: Any, body: bytes) -> Failure:
    field = locate(error)[1].removeprefix(".")[:NAME_LIMIT] or "body"
    failure = Failure("invalid", str(error)[: 2 * NAME_LIMIT], field=field)
    return add_errors(failure, type, lambda: msgspec.json.decode(body))


def _too_large(limit: int) -> Failure:
    return Failure("too-large", f"the body can have at most {limit} bytes", field="body")
