"""The headers of a call: its deadline, its call chain, and the key under which its outcome is recorded."""

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

_match_numbered = re.compile(r"([0-9a-f]{32})\.([1-9][0-9]{0,18})").fullmatch
_match_sent = re.compile(rf"{re.escape(envelope.TELL_PREFIX)}([1-9][0-9]{{0,18}})\.([A-Za-z0-9_-]{{22}})").fullmatch
_is_number = re.compile(r"[0-9]{1,19}").fullmatch
_is_milliseconds = re.compile(r"-?[0-9]{1,15}").fullmatch
_is_request_id = re.compile(rf"[\x20-\x7e]{{1,{envelope.REQUEST_ID_LIMIT}}}").fullmatch


class Reply(NamedTuple):
    """The answer to a call: an encoded result, or a problem document if `failed`."""

    payload: bytes
    failed: bool = False

    @classmethod
    def of(cls, failure: Failure) -> Reply:
        return cls(failure.encode(), True)


class RequestKey(NamedTuple):
    """The key under which a command's outcome is recorded.

    A numbered request belongs to `client`, one incarnation of a caller's process, and `ack` is the lowest number
    that this client still waits for. Any other ID was chosen by the caller; `client` is then empty. Both kinds are
    bound to the principal, or to the service that acts for it, so no caller can name the requests of another.

    The client of an object's tell is that object, which sends one tell to each other object at a time. `former` is the
    key under which earlier versions recorded it.
    """

    key: str
    client: str = ""
    number: int = 0
    ack: int = 0
    tell: bool = False
    former: str = ""


def parse_request_key(principal: Principal, headers: Mapping[str, str]) -> RequestKey | None:
    """Return the key of a request, or None without a `Request-Id`. Raises `bad-request` for a malformed ID."""
    request_id = headers.get(envelope.REQUEST_ID)
    if request_id is None:
        return None
    ack, owner = headers.get(envelope.REQUEST_ACK), principal.actor or principal.subject
    tell = (principal.is_service or bool(principal.actor)) and request_id.startswith(envelope.TELL_PREFIX)
    if ack is not None and tell and (sent := _match_sent(request_id)):
        return _numbered(digest(owner, sent[2]), sent[1], ack)._replace(tell=True, former=digest(owner, request_id))
    if ack is not None and (numbered := _match_numbered(request_id)):
        return _numbered(digest(owner, numbered[1]), numbered[2], ack)
    if not _is_request_id(request_id):
        detail = f"a request ID has 1 to {envelope.REQUEST_ID_LIMIT} printable ASCII characters"
        raise Failure("bad-request", detail, field=envelope.REQUEST_ID)
    return RequestKey(digest(owner, request_id), tell=tell)


def _numbered(client: str, number: str, ack: str) -> RequestKey:
    if not _is_number(ack) or max(int(number), int(ack)) >= 2**63:
        raise Failure("bad-request", "it must be a number below 2^63", field=envelope.REQUEST_ACK)
    return RequestKey(f"{client}-{number}", client, int(number), min(int(ack), int(number)))


@lru_cache(maxsize=10_000)
def digest(*parts: str) -> str:
    """Return a hash of 22 characters that is safe as a field name."""
    hashed = hashlib.sha256("\0".join(parts).encode()).digest()[:16]
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def fingerprint(method: str, payload: bytes, if_match: str | None) -> bytes:
    """Return a hash of everything that must be equal in all copies of a request."""
    return hashlib.blake2b(f"{method}\0{if_match or ''}\0".encode() + payload, digest_size=8).digest()


def parse_deadline(headers: Mapping[str, str], default: float, longest: float) -> float:
    """Return the seconds that the caller still waits, at most `longest`; `default` if the caller doesn't say.

    Raises `bad-request` or `deadline-past`.
    """
    text = headers.get(envelope.DEADLINE)
    if text is None:
        return default
    if not _is_milliseconds(text):
        raise Failure("bad-request", "a deadline is a number of milliseconds", field=envelope.DEADLINE)
    milliseconds = int(text)
    if milliseconds <= 0:
        raise Failure("deadline-past", "the deadline has already passed", field=envelope.DEADLINE)
    return min(milliseconds / 1000, longest)


def parse_call_chain(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the IDs of the objects that wait for this call. Raises `invalid`, or `deadlock` for too many."""
    text = headers.get(envelope.CALL_CHAIN)
    if not text:
        return ()
    chain = tuple(text.split(","))
    if len(chain) > envelope.CALL_CHAIN_LIMIT:
        raise Failure("deadlock", f"more than {envelope.CALL_CHAIN_LIMIT} objects wait for each other")
    for object_id in chain:
        subjects.split_object_id(object_id)
    return chain
