"""Pure rules of projects and tasks; nothing here waits for anything."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from aidevos import Schema
from aidevos.contracts.errors import Failure
from aidevos.contracts.projects import MANAGE, Role
from aidevos.contracts.tasks import KINDS, PAYLOAD_LIMIT, RESERVED, Status
from aidevos.security.permissions import Principal

Action = Literal["start", "succeed", "fail", "postpone", "cancel", "retry"]
# What may happen to a task in each status, and the status that follows. `postpone` is the end of an attempt
# that another one follows.
TRANSITIONS: dict[Status, dict[Action, Status]] = {
    "queued": {"start": "running", "cancel": "cancelled"},
    "running": {"succeed": "succeeded", "fail": "failed", "postpone": "queued", "cancel": "cancelled"},
    "succeeded": {},
    "failed": {"retry": "queued"},
    "cancelled": {"retry": "queued"},
}


def follow(status: Status, action: Action) -> Status:
    """The status after an action; raises `conflict` where a task in that status doesn't allow it."""
    after = TRANSITIONS[status].get(action)
    if after is None:
        raise Failure("conflict", f"there is no {action} for a task that is {status}")
    return after


def role_of(caller: Principal, project: str, members: dict[str, Role]) -> Role | None:
    """What the caller is in a project; whoever manages projects is an owner of each, and an API key that counts
    in another one nobody."""
    if caller.project not in ("", project):
        return None
    return "owner" if caller.has(MANAGE) else members.get(caller.subject)


def change_members(members: dict[str, Role], user: str, role: Role | None) -> dict[str, Role]:
    """The members after a user has got a role, or with None has gone; raises `conflict` for the last owner."""
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
    """The payload as JSON, in the order in which it came. Raises `invalid` or `too-large`; `field` is
    what the payload is called in errors."""
    if kind not in KINDS and kind.partition(".")[0] in RESERVED:
        raise Failure("invalid", f"there is no such kind of task; built in are {', '.join(KINDS)}", field="args.kind")
    if kind in KINDS:
        try:
            _payloads[kind].convert(payload)
        except Failure as failure:
            raise Failure(failure.code, failure.detail, field=f"{field}{failure.field}") from None
    encoded = msgspec.json.encode(payload)
    if len(encoded) > PAYLOAD_LIMIT:
        raise Failure("too-large", f"a payload has at most {PAYLOAD_LIMIT} bytes", field=field)
    return encoded
