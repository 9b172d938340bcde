"""Errors as every entry point shows them: one exception, one table, one document (RFC 9457).

A `Failure` may be raised anywhere in the product, and becomes a problem document at the edge of the
process. Only `CODES` says which HTTP status a code has, and whether the caller may simply try again.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import msgspec


class Code(NamedTuple):
    """The meaning of an error code; `when` and `remedy` are sentences for the catalogue of errors."""

    status: int
    title: str
    when: str
    remedy: str
    retryable: bool = False


CODES: dict[str, Code] = {
    "bad-request": Code(
        400,
        "The request can't be read",
        "The body, a header, a parameter or the path can't be parsed, or the request sends two credentials. "
        "A body that arrives too slowly gets this code with status 408.",
        "Correct the part that `detail` and `field` name.",
    ),
    "unauthenticated": Code(
        401,
        "A valid credential is needed",
        "There is no credential, or it is wrong, expired or revoked.",
        "Refresh the access token or log in again, and repeat the request with the new credential.",
    ),
    "email-unverified": Code(
        403,
        "The e-mail address has yet to be confirmed",
        "The password is right, but this fleet lets users log in only after they confirm their e-mail address.",
        "Open the link in the mail. A link that resets the password confirms the address too.",
    ),
    "mfa-required": Code(
        401,
        "A second factor is needed",
        "The account has a second factor, and the login sent no code.",
        "Send the `challenge` with a code to `POST /auth/mfa/verify` within 5 minutes, or log in again with `otp`.",
    ),
    "forbidden": Code(
        403,
        "The caller lacks a permission",
        "The credential is valid, but the caller lacks a permission, a scope, ownership or membership.",
        "Ask an administrator for the permission, or use an API key with the scope, that `detail` names.",
    ),
    "not-found": Code(
        404,
        "There is nothing here",
        "The path, object or item doesn't exist, or the caller may not know that it exists.",
        "Check the path and the ID, and whether the caller may read it.",
    ),
    "unknown-type": Code(
        404,
        "No such type of object",
        "No process of the fleet serves this type of objects, and none has within the last day.",
        "Check the spelling. During a deployment, try again when the service that hosts the type is up.",
    ),
    "unknown-method": Code(
        404,
        "The type has no such method",
        "The type of the object has no method, query or search with this name.",
        "Use a method that `detail` lists. During a deployment, try again when the new version is up.",
    ),
    "method-not-allowed": Code(
        405,
        "This path doesn't take this method",
        "The path exists, but not with this HTTP method.",
        "Use a method that the header `Allow` lists.",
    ),
    "deadline-past": Code(
        408,
        "The deadline had passed when the request arrived",
        "The caller's deadline had passed before the request was begun. Nothing was done.",
        "Repeat the request with a longer deadline.",
    ),
    "conflict": Code(
        409,
        "The state of the object doesn't allow this",
        "The request is valid, but the present state rules it out. `detail` says why.",
        "Read the object, resolve the conflict, and send a new request.",
    ),
    "exists": Code(
        409,
        "The object exists already",
        "The object, the name or the unique value that the request would create is taken. `field` says which.",
        "Use the existing one, or choose another name or value.",
    ),
    "deadlock": Code(
        409,
        "The object waits for this very call",
        "A call would go back to an object that waits for it, or too many objects wait for each other.",
        "Change the object's code: send a tell, or make the inner call a query.",
    ),
    "query-only": Code(
        409,
        "Only a query may be called here",
        "The request has the header `Query-Only`, as the calls of queries have, and the method is a command.",
        "Call a query, or make the calling method a command.",
    ),
    "stale": Code(
        409,
        "A later request of this client has settled this one",
        "The outcome of this request ID is no longer kept, because the client acknowledged it, a day passed, or it was "
        "erased. Nothing was changed.",
        "Read the present state. If the request is still needed, send it under a new ID.",
    ),
    "precondition-failed": Code(
        412,
        "The object has another version",
        "`If-Match` names another version, or `If-None-Match: *` met something that exists.",
        "Read again, apply the change to the new version, and send it with the new `ETag`.",
    ),
    "too-large": Code(
        413,
        "The payload is too large",
        "A body, state, answer, message or alarm exceeds the limit that `detail` names.",
        "Send less at once, or split it. Operators can raise some limits by a setting.",
    ),
    "unsupported-media-type": Code(
        415,
        "The content type is not supported",
        "The `Content-Type` or `Content-Encoding` of the body is not one that this operation takes.",
        "Send the body as a media type that `detail` names, without a content encoding.",
    ),
    "invalid": Code(
        422,
        "A value is not allowed",
        "The request can be read, but a value has the wrong type, form or range, or breaks a rule.",
        "Correct the value that `field` names.",
    ),
    "request-id-reused": Code(
        422,
        "The request ID was used for another request",
        "The same `Request-Id` or `Idempotency-Key` came with another payload or target.",
        "Use a new ID for each new request, and the same ID only for a repeat.",
    ),
    "too-slow": Code(
        422,
        "The search takes too long",
        "A search reached its time limit.",
        "Narrow the filter, or declare an index that serves it.",
    ),
    "precondition-required": Code(
        428,
        "The request must name the version it changes",
        "The collection takes changes only with `If-Match`.",
        "Read the item, and send its `ETag` as `If-Match`.",
    ),
    "rate-limited": Code(
        429,
        "Too many requests",
        "The caller, the account or the client address has used up a limit.",
        "Wait for `retry_after` seconds, which the header `Retry-After` gives too.",
        retryable=True,
    ),
    "internal": Code(
        500,
        "Something failed on our side",
        "An unexpected error occurred. The log has its details under `error_id`.",
        "Give the `error_id` to the operator. A repeat with the same request ID is safe.",
    ),
    "unavailable": Code(
        503,
        "No process can answer right now",
        "No process serves the object at the moment, a server behind it is away, or the outcome is not known yet.",
        "Repeat the request with the same request ID after `retry_after` seconds.",
        retryable=True,
    ),
    "overloaded": Code(
        503,
        "Too much work is waiting",
        "A bound on waiting or running work is reached. The request was not applied.",
        "Repeat the request after `retry_after` seconds, and with growing pauses if it fails again.",
        retryable=True,
    ),
    "moved": Code(
        503,
        "Another process owns the object",
        "The request reached a process that doesn't own the object, as happens while ownership moves, or whose code is "
        "older than the object's state.",
        "Repeat the request with the same request ID. The framework's clients do so by themselves.",
        retryable=True,
    ),
    "turn-timeout": Code(
        504,
        "The method took too long",
        "The method ran longer than its time limit. It was stopped, and what it had changed was undone.",
        "A repeat with the same request ID gets the same answer. Have the method do less at once, or raise its limit: "
        "`turn_deadline` of the method, or `AIDEVOS_TURN_DEADLINE`.",
    ),
    "deadline-exceeded": Code(
        504,
        "The deadline passed before there was an answer",
        "There was no answer before the deadline. The request may have been applied.",
        "Repeat the request with the same request ID: it takes effect once, and the answer says what came of it.",
    ),
}
# The catalogue of errors, as the gateway serves it; relative, so that it leads to the fleet's own copy.
CATALOGUE = "/docs/errors"
MEDIA_TYPE = "application/problem+json"
DETAIL_LIMIT = 1000
FIELD_LIMIT = 256


class FieldError(msgspec.Struct):
    """One error of a body. `field` is the dotted path of the value, or of the property that is missing."""

    field: str
    detail: str


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """RFC 9457 problem details.

    `type` is a URI reference, relative to the gateway, to the code's entry in the catalogue of errors.
    `field` is the dotted path of the refused value. `errors` are all errors of a refused body.
    `retry_after` is in seconds. `error_id` finds the log line of an `internal` error. `challenge`
    completes a login that needs a second factor.
    """

    type: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri-reference"})]
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    errors: list[FieldError] | None = None
    retry_after: float | None = None
    error_id: str | None = None
    challenge: str | None = None
    extra: dict[str, Any] | None = None


# Refusals that a deployment in progress can explain.
_TRANSIENT = frozenset({"deadline-exceeded", "unauthenticated", "unknown-type", "unknown-method"})


class Failure(Exception):
    """An error that a caller may see.

    `code` is a key of `CODES`; objects may raise their own codes with a `status` of 4xx. `retry_after`
    is in seconds. Long details and fields are truncated.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        errors: list[FieldError] | None = None,
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
            raise ValueError(f"{code!r} isn't a known code, so it needs a status from 400 to 499")
        self.code = code
        self.detail = detail
        self.field = field if field is None or len(field) <= FIELD_LIMIT else field[:FIELD_LIMIT] + "…"
        self.errors = errors
        self.status = status or (known.status if known else 400)
        self.title = known.title if known else code.replace("-", " ").capitalize()
        self.retryable = bool(known and known.retryable)
        self.retry_after = retry_after if retry_after is not None or not self.retryable else 1.0
        self.error_id = error_id
        self.challenge = challenge
        self.extra = extra

    @property
    def is_transient(self) -> bool:
        """True if the same request may succeed later: a retryable failure, or one that a deployment explains."""
        return self.retryable or self.code in _TRANSIENT

    @property
    def problem(self) -> Problem:
        return Problem(
            type=f"{CATALOGUE}#{quote(self.code)}",
            title=self.title,
            status=self.status,
            code=self.code,
            detail=self.detail,
            field=self.field,
            errors=self.errors,
            retry_after=self.retry_after,
            error_id=self.error_id,
            challenge=self.challenge,
            extra=self.extra,
        )

    def encode(self) -> bytes:
        """Return the problem document as JSON."""
        return msgspec.json.encode(self.problem)

    @classmethod
    def decode(cls, document: bytes) -> Failure:
        """Return the failure in a problem document; anything else becomes `internal`."""
        try:
            problem = _decoder.decode(document)
        except msgspec.DecodeError:
            return cls("internal", "the reply was an error without a problem document")
        code, status = problem.code, problem.status
        if code not in CODES and not 400 <= status <= 499:
            code, status = "internal", 500
        return cls(
            code,
            problem.detail,
            field=problem.field,
            errors=problem.errors,
            retry_after=problem.retry_after,
            status=status,
            error_id=problem.error_id,
            challenge=problem.challenge,
            extra=problem.extra,
        )


_decoder = msgspec.json.Decoder(Problem)
