"""Writing of the security log from an object's turn.

`record` is a tell, so the entry exists if and only if the turn's changes were committed. A turn that
raises leaves no trace; before it raises, it awaits `record_failure`, which is a call.
"""

from __future__ import annotations

from typing import Any, Protocol

from aidevos.contracts.audit import REASON_LIMIT, TYPE, Outcome
from aidevos.contracts.subjects import new_id
from aidevos.security.permissions import Principal


class ActingObject(Protocol):
    """The part of an object, while its turn runs, that the log needs."""

    @property
    def caller(self) -> Principal: ...

    @property
    def client_address(self) -> str: ...

    @property
    def now(self) -> float: ...

    def tell(self, type: str, id: str, method: str, /, **args: Any) -> None: ...

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any: ...


def record(
    object: ActingObject,
    action: str,
    *,
    target: str = "",
    outcome: Outcome = "success",
    reason: str = "",
    actor: str | None = None,
    session: str | None = None,
) -> None:
    """Write an entry with the commit of the running turn.

    `action` is a dotted name, `target` the ID that the action concerns, `reason` a few fixed words.
    None of them may contain a name, an e-mail address or a secret. `actor` and `session` are the
    caller's by default.
    """
    object.tell(TYPE, new_id(), "record", **_entry(object, action, target, outcome, reason, actor, session))


async def record_failure(
    object: ActingObject,
    action: str,
    *,
    target: str = "",
    reason: str = "",
    actor: str | None = None,
    session: str | None = None,
) -> None:
    """Write an entry of a failure now; it stays even if the running turn raises."""
    await object.call(TYPE, new_id(), "record", **_entry(object, action, target, "failure", reason, actor, session))


def _entry(
    object: ActingObject,
    action: str,
    target: str,
    outcome: Outcome,
    reason: str,
    actor: str | None,
    session: str | None,
) -> dict[str, Any]:
    return {
        "at": object.now,
        "actor": object.caller.subject if actor is None else actor,
        "action": action,
        "target": target,
        "outcome": outcome,
        "reason": reason[:REASON_LIMIT],
        "address": object.client_address,
        "session": object.caller.session if session is None else session,
    }
