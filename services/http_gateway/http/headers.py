"""Parsers of request headers; each value is checked once, and a refusal names the header."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aidevos.contracts.envelope import REQUEST_ID_LIMIT
from aidevos.contracts.errors import Failure

VALUE_LIMIT = 4096
_etag = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_etags = re.compile(rf"\*|{_etag}(?:[ \t]*,[ \t]*{_etag})*").fullmatch
_each_etag = re.compile(_etag).findall
BARE_KEY = r"[!#-+\--:<-\[\]-~]"
_bare_key = re.compile(f"{BARE_KEY}+").fullmatch
_quoted_key = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"').fullmatch
_integer = re.compile(r"-?[0-9]{1,18}").fullmatch


def parse_idempotency_key(value: str) -> str:
    """Return the request ID in `Idempotency-Key`: an RFC 8941 string, with or without quotes."""
    quoted = _quoted_key(value)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value if _bare_key(value) else ""
    if not 0 < len(key) <= REQUEST_ID_LIMIT or key != key.strip():
        raise _malformed("Idempotency-Key", f'a string of 1 to {REQUEST_ID_LIMIT} ASCII characters, like "8e03978e"')
    return key


def parse_entity_tags(name: str, value: str) -> str:
    """Return the value of `If-Match` or `If-None-Match` if it is valid (RFC 9110 §13.1)."""
    if len(value) > VALUE_LIMIT or not _etags(value):
        raise _malformed(name, '* or a list of entity tags, like "3"')
    return value


def only_new(headers: Mapping[bytes, bytes]) -> bool:
    """True if a PUT must create something: with `If-None-Match: *`. Any other value raises `bad-request`."""
    condition = headers.get(b"if-none-match")
    if condition is None:
        return False
    if parse_entity_tags("If-None-Match", condition.decode("latin-1")) != "*":
        raise Failure("bad-request", "a PUT accepts no If-None-Match other than *", field="If-None-Match")
    return True


def matches_none(value: str, etag: str) -> bool:
    """True if a response with this entity tag satisfies `If-None-Match` (weak comparison)."""
    return value != "*" and etag not in (tag.removeprefix("W/") for tag in _each_etag(value))


def parse_deadline(value: str) -> float:
    """Return the seconds until the deadline, from the header `Deadline` in milliseconds."""
    if not _integer(value):
        raise _malformed("Deadline", "the remaining milliseconds, a positive integer")
    milliseconds = int(value)
    if milliseconds <= 0:
        raise Failure("deadline-past", "the deadline had passed when the request arrived", field="Deadline")
    return milliseconds / 1000


def _malformed(name: str, wanted: str) -> Failure:
    return Failure("bad-request", f"the header {name} must be {wanted}", field=name)


def repeated_header(name: str) -> Failure:
    return Failure("bad-request", f"the header {name} may be sent once", field=name)
