"""The rules of projects and tasks, each against its definition in words."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from aidevos.contracts.projects import Role
from aidevos.contracts.tasks import KINDS, PAYLOAD_LIMIT, Status
from services.projects.rules import Action, change_members, encode_payload, follow

ROLES = get_args(Role)
ENDED = {"succeeded", "failed", "cancelled"}
members = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(ROLES), min_size=1).filter(
    lambda found: "owner" in found.values()
)


def followed(status: Status, action: Action) -> Status:
    """Return the status after an action; a refused action leaves it unchanged."""
    try:
        return follow(status, action)
    except Failure:
        return status


@given(st.lists(st.sampled_from(get_args(Action))))
def test_a_task_is_done_once_at_a_time_and_what_has_ended_stays_until_it_is_retried(actions: list[Action]) -> None:
    status: Status = "queued"
    for action in actions:
        after = followed(status, action)
        allowed = {
            "start": {("queued", "running")},
            "succeed": {("running", "succeeded")},
            "fail": {("running", "failed")},
            "postpone": {("running", "queued")},
            "cancel": {("queued", "cancelled"), ("running", "cancelled")},
            "retry": {("failed", "queued"), ("cancelled", "queued")},
        }[action]
        assert (status, after) in allowed or (after == status and status not in {before for before, _ in allowed})
        if status in ENDED and after != status:
            assert action == "retry"
            assert status != "succeeded"
        status = after


@given(members, st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([*ROLES, None]))))
def test_a_project_always_has_an_owner_whatever_its_members_become(
    found: dict[str, Role], changes: list[tuple[str, Role | None]]
) -> None:
    for user, role in changes:
        before = dict(found)
        owners = [other for other, its in before.items() if its == "owner"]
        if owners == [user] and role != "owner":
            with pytest.raises(Failure, match="the last owner"):
                change_members(found, user, role)
            continue
        found = change_members(found, user, role)
        assert found.get(user) == role
        assert {**found, user: None} == {**before, user: None}
        assert "owner" in found.values()


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [
        ("data.export", {}, "payload.collection"),
        ("data.export", {"collection": "a b"}, "payload.collection"),
        ("data.import", {"collection": "a", "items": [{"id": 1, "data": 1}]}, "payload.items[0].id"),
        ("object.call", {"object_id": "counter", "method": "increment"}, "payload.object_id"),
        ("object.call", {"object_id": "counter:a", "method": "increment", "x": 1}, "payload.x"),
        ("webhook", {"url": "ftp://example.org/"}, "payload.url"),
        ("webhook", {"url": "https://user:secret@example.org/"}, "payload.url"),
        ("object.delete", {}, "args.kind"),
        ("webhook.other", {}, "args.kind"),
    ],
)
def test_a_payload_that_its_kind_refuses_is_refused_by_its_field(kind: str, payload: Any, field: str) -> None:
    with pytest.raises(Failure) as refused:
        encode_payload(kind, payload, "payload")

    assert (refused.value.code, refused.value.field) == ("invalid", field)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("data.export", {"collection": "orders"}),
        ("data.import", {"collection": "orders", "items": [{"data": {"$set": {"a.b": [1.0]}}}]}),
        ("object.call", {"object_id": "counter:a", "method": "increment", "args": {"by": 2}}),
        ("webhook", {"url": "https://example.org:8443/in?x=1", "type": "order.paid", "data": {"id": 7}}),
        ("report", {"any": {"$shape": None}}),
        ("shop.reports.daily", {}),
    ],
)
def test_a_payload_is_kept_as_it_came(kind: str, payload: Any) -> None:
    assert msgspec.json.decode(encode_payload(kind, payload, "payload")) == payload


def test_a_payload_is_bounded_in_bytes() -> None:
    with pytest.raises(Failure) as refused:
        encode_payload("report", {"a": "x" * PAYLOAD_LIMIT}, "payload")

    assert (refused.value.code, refused.value.field) == ("too-large", "payload")


def test_every_kind_that_is_built_in_is_judged() -> None:
    for kind in KINDS:
        with pytest.raises(Failure):
            encode_payload(kind, {"no such field": 1}, "payload")
