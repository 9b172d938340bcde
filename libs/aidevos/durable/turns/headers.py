"""What a call's headers say: its deadline, its call chain, and the key under which its outcome is recorded."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import Principal

_numbered = re.compile(r"([0-9a-f]{32})\.([1-9][0-9]{0,18})").fullmatch
_number = re.compile(r"[0-9]{1,19}").fullmatch
_milliseconds = re.compile(r"-?[0-9]{1,15}").fullmatch
_chosen = re.compile(rf"[\x20-\x7e]{{1,{envelope.REQUEST_ID_LIMIT}}}").fullmatch


class Reply(NamedTuple):
    """What goes back: a result, or a problem document when `failed`."""

    payload: bytes
    failed: bool = False

    @classmethod
    def of(cls, failure: Failure) -> Reply:
        return cls(failure.encode(), True)


class RequestKey(NamedTuple):
    """Under which key a command's outcome is recorded.

    A numbered request belongs to `client`, one incarnation of one caller, and `ack` is the lowest
    number that the client still waits for. Any other ID is `chosen` by its caller. Both are bound
    to the caller's identity, or that of the service which acts for the caller, so nobody can name another's.
    """

    key: str
    client: str = ""
    number: int = 0
    ack: int = 0
    tell: bool = False


def request_key(principal: Principal, headers: Mapping[str, str]) -> RequestKey | None:
    """The key of a request by its headers; raises `bad-request` for an ID that is none."""
    request_id = headers.get(envelope.REQUEST_ID)
    if request_id is None:
        return None
    ack, whose = headers.get(envelope.REQUEST_ACK), principal.actor or principal.subject
    numbered = _numbered(request_id) if ack is not None else None
    if numbered and ack is not None:
        number = int(numbered[2])
        if not _number(ack) or max(number, int(ack)) >= 2**63:
            raise Failure("bad-request", "it must be a number", field=envelope.REQUEST_ACK)
        client = digest(whose, numbered[1])
        return RequestKey(f"{client}-{number}", client, number, min(int(ack), number))
    if not _chosen(request_id):
        detail = f"a request ID has 1 to {envelope.REQUEST_ID_LIMIT} printable ASCII characters"
        raise Failure("bad-request", detail, field=envelope.REQUEST_ID)
    tell = (principal.is_service or bool(principal.actor)) and request_id.startswith(envelope.TELL_PREFIX)
    return RequestKey(digest(whose, request_id), tell=tell)


@lru_cache(maxsize=10_000)
def digest(*parts: str) -> str:
    """A key of 22 characters, safe as a field name, that nobody can choose."""
    hashed = hashlib.sha256("\0".join(parts).encode()).digest()[:16]
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def fingerprint(method: str, payload: bytes, if_match: str | None) -> bytes:
    """What must be equal in every copy of one request."""
    return hashlib.blake2b(f"{method}\0{if_match or ''}\0".encode() + payload, digest_size=8).digest()


def remaining(headers: Mapping[str, str], default: float, longest: float) -> float:
    """Seconds that the caller still waits; raises `bad-request` or `deadline-past`."""
    text = headers.get(envelope.DEADLINE)
    if text is None:
        return default
    if not _milliseconds(text):
        raise Failure("bad-request", "a deadline is a number of milliseconds", field=envelope.DEADLINE)
    milliseconds = int(text)
    if milliseconds <= 0:
        raise Failure("deadline-past", "the deadline has passed already", field=envelope.DEADLINE)
    return min(milliseconds / 1000, longest)


def call_chain(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The objects that wait for this call; raises `bad-request` or `deadlock` when it is too long."""
    text = headers.get(envelope.CALL_CHAIN)
    if not text:
        return ()
    chain = tuple(text.split(","))
    if len(chain) > envelope.CALL_CHAIN_LIMIT:
        raise Failure("deadlock", f"more than {envelope.CALL_CHAIN_LIMIT} objects wait for each other")
    for object_id in chain:
        subjects.split_object_id(object_id)
    return chain
