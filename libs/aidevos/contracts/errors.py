"""Errors as every door shows them: one root, one table, one document (RFC 9457).

A `Failure` is raised anywhere in the product and becomes a problem document at the edge of the
process. `CODES` is the only place where a code meets an HTTP status and the question whether the
caller may simply try again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


class Code(NamedTuple):
    status: int
    title: str
    retryable: bool = False


CODES: dict[str, Code] = {
    "bad-request": Code(400, "The request can't be read"),
    "unauthenticated": Code(401, "A valid credential is needed"),
    "email-unverified": Code(403, "The e-mail address has yet to be confirmed"),
    "mfa-required": Code(401, "A second factor is needed"),
    "forbidden": Code(403, "The caller lacks a permission"),
    "not-found": Code(404, "There is nothing here"),
    "unknown-type": Code(404, "No such type of object"),
    "unknown-method": Code(404, "The type has no such method"),
    "method-not-allowed": Code(405, "This path doesn't take this method"),
    "deadline-past": Code(408, "The deadline had passed when the request arrived"),
    "conflict": Code(409, "The state of the object doesn't allow this"),
    "exists": Code(409, "The object exists already"),
    "deadlock": Code(409, "The object waits for this very call"),
    "stale": Code(409, "A later request of this client has settled this one"),
    "precondition-failed": Code(412, "The object has another version"),
    "too-large": Code(413, "The payload is too large"),
    "unsupported-media-type": Code(415, "The content type is not supported"),
    "invalid": Code(422, "A value is not allowed"),
    "request-id-reused": Code(422, "The request ID was used for another request"),
    "too-slow": Code(422, "The search takes too long"),
    "precondition-required": Code(428, "The request must name the version it changes"),
    "rate-limited": Code(429, "Too many requests", retryable=True),
    "internal": Code(500, "Something failed on our side"),
    "unavailable": Code(503, "Nobody can answer right now", retryable=True),
    "overloaded": Code(503, "Too much work is waiting", retryable=True),
    "moved": Code(503, "Another process owns the object", retryable=True),
    "deadline-exceeded": Code(504, "The deadline passed before there was an answer"),
}

MEDIA_TYPE = "application/problem+json"
DETAIL_LIMIT = 1000
FIELD_LIMIT = 256


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """RFC 9457 problem details. `field` is the dotted path of the value that was refused,
    `retry_after` is in seconds, `error_id` finds the log line of an `internal` error, `challenge` is what
    a login that needs a second factor is completed with."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    retry_after: float | None = None
    error_id: str | None = None
    challenge: str | None = None
    extra: dict[str, Any] | None = None


# Refusals that a deployment under way explains.
_PASSING = frozenset({"deadline-exceeded", "unauthenticated", "unknown-type", "unknown-method"})


class Failure(Exception):
    """An error that a caller may see.

    `code` is a key of `CODES`; objects may raise codes of their own with a `status` of 4xx.
    `retry_after` is in seconds. What is longer than a person reads is cut.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        error_id: str | None = None,
        challenge: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        detail = detail if len(detail) <= DETAIL_LIMIT else detail[:DETAIL_LIMIT] + "…"
        super().__init__(detail)
        known = CODES.get(code)
        if known is None and (status is None or not 400 <= status <= 499):
            raise ValueError(f"{code!r} is no known code, so it needs a status from 400 to 499")
        self.code = code
        self.detail = detail
        self.field = field if field is None or len(field) <= FIELD_LIMIT else field[:FIELD_LIMIT] + "…"
        self.status = status or (known.status if known else 400)
        self.title = known.title if known else code.replace("-", " ").capitalize()
        self.retryable = bool(known and known.retryable)
        self.retry_after = retry_after if retry_after is not None or not self.retryable else 1.0
        self.error_id = error_id
        self.challenge = challenge
        self.extra = extra

    @property
    def is_passing(self) -> bool:
        """True if the same request may succeed later: a retryable failure, or one that a deployment explains."""
        return self.retryable or self.code in _PASSING

    @property
    def problem(self) -> Problem:
        return Problem(
            type=f"urn:aidevos:problem:{self.code}",
            title=self.title,
            status=self.status,
            code=self.code,
            detail=self.detail,
            field=self.field,
            retry_after=self.retry_after,
            error_id=self.error_id,
            challenge=self.challenge,
            extra=self.extra,
        )

    def encode(self) -> bytes:
        """The problem document as JSON."""
        return msgspec.json.encode(self.problem)

    @classmethod
    def decode(cls, document: bytes) -> Failure:
        """The failure that a problem document tells of; a document that is none is `internal`."""
        try:
            problem = _decoder.decode(document)
        except msgspec.DecodeError:
            return cls("internal", "the answer was an error without a problem document")
        code, status = problem.code, problem.status
        if code not in CODES and not 400 <= status <= 499:
            code, status = "internal", 500
        return cls(
            code,
            problem.detail,
            field=problem.field,
            retry_after=problem.retry_after,
            status=status,
            error_id=problem.error_id,
            challenge=problem.challenge,
            extra=problem.extra,
        )


_decoder = msgspec.json.Decoder(Problem)
