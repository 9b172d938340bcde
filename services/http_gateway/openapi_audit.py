"""The part of the API's description that is about the security log."""

from __future__ import annotations

from aidevos.contracts import audit

from .openapi_parts import COMMON, Json, content, operation, parameter, reference, schemas_of

TAG: Json = {"name": "audit", "description": "The security log"}


def schemas() -> Json:
    return schemas_of(audit.AuditPage)


def parameters() -> Json:
    return {
        "actor": parameter("actor", "query", "^.{0,160}$", "Only what this one did: a user's ID or `service:<name>`"),
        "target": parameter("target", "query", "^.{0,160}$", "Only what was done to this ID"),
        "action": parameter(
            "action", "query", r"^[a-z0-9_.]{1,64}\*?$", "Only this action; `mfa.*`: those that begin so"
        ),
        "outcome": parameter("outcome", "query", "^(success|failure)$", "Only entries with this outcome"),
        "from": _moment("from", "The first moment, RFC 3339 with an offset"),
        "to": _moment("to", "The moment after the last one, RFC 3339 with an offset"),
        "audit_sort": parameter(
            "sort", "query", "^-?at$", "The order by time, with a minus (the default) the newest first"
        ),
    }


def paths() -> Json:
    return {
        "/audit": {
            "get": operation(
                "search_audit",
                "audit",
                "Read the security log",
                {"200": content("One page", reference("AuditPage"))},
                COMMON,
                parameters=(
                    "limit",
                    "cursor",
                    "actor",
                    "target",
                    "action",
                    "outcome",
                    "from",
                    "to",
                    "audit_sort",
                    "Deadline",
                ),
                description="Needs `audit:read`.",
            )
        }
    }


def _moment(name: str, description: str) -> Json:
    described = parameter(name, "query", None, description)
    return described | {"schema": {"type": "string", "format": "date-time"}}
