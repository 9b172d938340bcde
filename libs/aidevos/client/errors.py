"""The exceptions of the client, the same over HTTP and NATS.

Each is a `Failure` with the code, status and detail of its problem document. The class depends on the status, so that a
program catches a kind of error without comparing strings:

    ApiError
    ├── Unauthenticated (401)         ── SecondFactorNeeded (code `mfa-required`)
    ├── Forbidden (403)
    ├── NotFound (404)
    ├── Conflict (409)
    ├── PreconditionFailed (412, 428)
    ├── Invalid (400, 413, 415, 422)
    ├── RateLimited (429)
    └── Unavailable (503, 504)        ── Unreachable (there was no answer at all)

`retryable` is True if the same request may succeed later. The client has then repeated it until its deadline.
"""

from __future__ import annotations

from aidevos.contracts.errors import Failure


class ApiError(Failure):
    """A request that was refused or not answered.

    `code` and `status` are those of the catalogue of errors, `field` names the refused value, and `retry_after` is in
    seconds. `request_id` finds the request in the fleet's logs; it is empty over NATS and if there was no answer.
    """

    request_id: str = ""


class Unauthenticated(ApiError):
    """The credential is missing, wrong, expired or revoked."""


class SecondFactorNeeded(Unauthenticated):
    """The login needs a second factor. Pass `challenge` to `client.auth.verify`, with a code."""


class Forbidden(ApiError):
    """The caller lacks a permission."""


class NotFound(ApiError):
    """The object, type or method doesn't exist, or the caller may not know of it."""


class Conflict(ApiError):
    """The request contradicts what is there, such as an item with the same ID."""


class PreconditionFailed(ApiError):
    """The version isn't the one that the request named, or the request must name one."""


class Invalid(ApiError):
    """The request has a value that isn't accepted; `field` names it."""


class RateLimited(ApiError):
    """The caller has used up a limit, and the limit stayed used up until the deadline."""


class Unavailable(ApiError):
    """No process could answer before the deadline. A command may or may not have been applied."""


class Unreachable(Unavailable):
    """The fleet gave no answer before the deadline, or can't be connected to."""

    def __init__(self, detail: str) -> None:
        super().__init__("unavailable", detail, retry_after=0.0)


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    428: PreconditionFailed,
    429: RateLimited,
    503: Unavailable,
    504: Unavailable,
}


def error_of(failure: Failure, request_id: str = "") -> ApiError:
    """Return a failure as the exception that users of the client catch."""
    kind = SecondFactorNeeded if failure.code == "mfa-required" else _BY_STATUS.get(failure.status, ApiError)
    error = kind.__new__(kind, *failure.args)
    vars(error).update(vars(failure), request_id=request_id)
    return error
