"""Checks for work that doesn't get done: outboxes, alarms, and dead letters."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from aidevos.cli.doctor.collections import PREFIX
from aidevos.cli.doctor.finding import Finding, ok, warning
from aidevos.cli.doctor.patient import Database, Patient
from aidevos.contracts import dead_letters
from aidevos.durable.store.mongo import DUE, PENDING

# Seconds for which an outbox may wait, and by which an alarm may be late.
STUCK_AFTER = 60.0
COUNTED, SHOWN, WITHIN_MS = 10_000, 3, 5000


async def check_outboxes(patient: Patient) -> list[Finding]:
    """Find objects whose events and tells have waited for long."""
    before = datetime.now(UTC) - timedelta(seconds=STUCK_AFTER)
    stuck = {"relay": True, "updated_at": {"$lt": before}}
    advice = "see whether the event bus is down or full, and whether a host serves the type"
    return await patient.ask_mongo(lambda data: _find(data, "outboxes", stuck, PENDING, advice))


async def check_alarms(patient: Patient) -> list[Finding]:
    """Find objects whose alarm should have rung long ago."""
    late = {"alarm_at": {"$lt": time.time() - STUCK_AFTER}}
    advice = "see whether a host serves the type, and its log"
    return await patient.ask_mongo(lambda data: _find(data, "alarms", late, DUE, advice))


async def check_dead_letters(patient: Patient) -> list[Finding]:
    """Find messages that could not be delivered."""
    return [await patient.ask_mongo(_count_letters)]


def _find(database: Database, check: str, wanted: dict[str, Any], index: dict[str, int], advice: str) -> list[Finding]:
    found = []
    for name in sorted(database.list_collection_names(filter={"name": {"$regex": f"^{PREFIX}"}})):
        collection = database[name]
        count = collection.count_documents(wanted, limit=COUNTED, maxTimeMS=WITHIN_MS)
        if count:
            some = [str(each["_id"]) for each in collection.find(wanted, {"_id": True}, limit=SHOWN)]
            more = " or more" if count == COUNTED else ""
            detail = f"{count}{more} of {name.removeprefix(PREFIX)} wait, such as {', '.join(some)}"
            found.append(warning(check, detail, advice))
    return found or [ok(check, f"none has waited for {STUCK_AFTER:.0f} s")]


def _count_letters(database: Database) -> Finding:
    letters = database[PREFIX + dead_letters.TYPE]
    wanted = {"deleted": None, "state.status": "dead"}
    kinds = letters.aggregate([{"$match": wanted}, {"$limit": COUNTED}, {"$sortByCount": "$state.kind"}])
    counts = {each["_id"]: each["count"] for each in kinds}
    if not counts:
        return ok("dead letters", "there are none")
    some = ", ".join(str(each["_id"]) for each in letters.find(wanted, {"_id": True}, limit=SHOWN))
    told = ", ".join(f"{count} of kind {kind}" for kind, count in counts.items())
    return warning("dead letters", f"{told}, such as {some}", "list them with GET /dead-letters, and replay them")
