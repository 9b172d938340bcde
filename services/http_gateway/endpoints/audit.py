"""`/audit`: the security log."""

from __future__ import annotations

from aidevos.contracts import audit, subjects
from aidevos.contracts.audit import AuditPage

from .api_router import APIRouter
from .operation import get
from .parameters import PAGE, moment, text

SEARCH = subjects.query(audit.TYPE, audit.SEARCH)
FILTERS = (
    text("actor", "Only what this one did: a user's ID or `service:<name>`", "^.{0,160}$"),
    text("target", "Only what was done to this ID", "^.{0,160}$"),
    text("action", "Only this action; `mfa.*`: those that begin so", r"^[a-z0-9_.]{1,64}\*?$"),
    text("outcome", "Only entries with this outcome", "^(success|failure)$"),
    moment("from", "The first moment"),
    moment("to", "The moment after the last one"),
    text("sort", "The order by time; with a minus (the default) the newest first", "^-?at$"),
)


class AuditRouter(APIRouter):
    tag = "audit"
    about = "The security log"
    permission = audit.READ_AUDIT
    rows = (get("/audit", "search_audit", "Read the security log", SEARCH, AuditPage, query=(*PAGE, *FILTERS)),)
