"""The pure rules of projects and tasks; nothing here waits."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from aidevos import Schema
from aidevos.contracts.errors import Failure
from aidevos.contracts.projects import MANAGE, Role
from aidevos.contracts.tasks import KINDS, PAYLOAD_LIMIT, RESERVED, Status
from aidevos.security.permissions import Principal

Action = Literal["start", "succeed", "fail", "postpone", "cancel", "retry"]
# The actions allowed in each status of a task, and the status that follows. `postpone` ends an attempt that another one
# follows.
TRANSITIONS: dict[Status, dict[Action, Status]] = {
    "queued": {"start": "running", "cancel": "cancelled"},
    "running": {"succeed": "succeeded", "fail": "failed", "postpone": "queued", "cancel": "cancelled"},
    "succeeded": {},
    "failed": {"retry": "queued"},
    "cancelled": {"retry": "queued"},
}


def follow(status: Status, action: Action) -> Status:
    """Return the status after an action. Raises `conflict` if the status doesn't allow it."""
    after = TRANSITIONS[status].get(action)
    if after is None:
        raise Failure("conflict", f"the action {action} isn't possible for a task that is {status}")
    return after


def role_of(caller: Principal, project: str, members: dict[str, Role]) -> Role | None:
    """Return the caller's role in a project, or None.

    Callers with `projects:manage` are owners of every project; an API key of another project has no
    role.
    """
    if caller.project not in ("", project):
        return None
    return "owner" if caller.has(MANAGE) else members.get(caller.subject)


def change_members(members: dict[str, Role], user: str, role: Role | None) -> dict[str, Role]:
    """Return the members after a user got a role or, with None, was removed. Raises `conflict` for the last owner."""
    changed = {other: kept for other, kept in members.items() if other != user}
    if role is not None:
        changed[user] = role
    if is_only_owner(members, user) and role != "owner":
        raise Failure("conflict", "this is the last owner: make another member an owner, or delete the project")
    return changed


def is_only_owner(members: dict[str, Role], user: str) -> bool:
    return [other for other, role in members.items() if role == "owner"] == [user]


_payloads: dict[str, Schema[Any]] = {kind: Schema(schema, "") for kind, schema in KINDS.items()}


def encode_payload(kind: str, payload: dict[str, Any], field: str) -> bytes:
    """Return the payload as JSON with its fields in their original order.

    Raises `invalid` or `too-large`; `field` names the payload in errors.
    """
    if kind not in KINDS and kind.partition(".")[0] in RESERVED:
        raise Failure(
            "invalid", f"this kind of task doesn't exist; built-in kinds: {', '.join(KINDS)}", field="args.kind"
        )
    if kind in KINDS:
        try:
            _payloads[kind].convert(payload)
        except Failure as failure:
            raise Failure(failure.code, failure.detail, field=f"{field}{failure.field}") from None
    encoded = msgspec.json.encode(payload)
    if len(encoded) > PAYLOAD_LIMIT:
        raise Failure("too-large", f"a payload can have at most {PAYLOAD_LIMIT} bytes", field=field)
    return encoded
