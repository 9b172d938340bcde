"""The methods that put stored objects into a fleet, for `aidevos restore` and `objects import`, and that store them in
today's schema, for `aidevos objects migrate`.

Promise: an object is loaded by a command of its own, so its host knows, its fence holds, and its version goes on. The
state must be one that the type reads today, upcast where it is older. What the management of a type leaves to the type
alone (`read_only`), only the owner of the fleet loads.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from aidevos.contracts import objects, projects
from aidevos.contracts.errors import Failure
from aidevos.durable.objects.alarm import EXPIRY, Scheduled, is_name
from aidevos.durable.objects.declaration import Declaration
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.running import RunningTurn, current_turn
from aidevos.security.permissions import Principal, owner, permission

# What to do with an object that exists already, and what was done.
OnConflict = Literal["skip", "replace", "fail"]
Loaded = Literal["created", "replaced", "skipped"]


# Who may export, load and migrate objects.
TRANSFERS = owner() | permission(objects.TRANSFER)


def check_transfer(caller: Principal, type: Any) -> None:
    """Raise `forbidden` if a type's states are not for this caller, who may export and load those of others."""
    if type.management == "read_only" and not owner().check(caller):
        detail = (
            f"the states of {type.object_type} are for the owner of the fleet only: run the command where its home is"
        )
        raise Failure("forbidden", detail)


async def _load(
    self: Any,
    state: dict[str, Any],
    schema: int = 1,
    project: str | None = None,
    alarms: dict[str, Scheduled] | None = None,
    created_at: datetime | None = None,
    on_conflict: OnConflict = "fail",
) -> Loaded:
    """Make the object what was stored elsewhere. Without `alarms`, an existing object keeps those that it has.

    Raises `exists`, `invalid` or `forbidden`.
    """
    turn = current_turn.get()
    _check_caller(turn, self, project)
    loaded = _decide(turn, project, on_conflict)
    if loaded == "skipped":
        return loaded
    self.state = _convert(turn, state, schema)
    if alarms is not None:
        _set_alarms(turn, alarms)
    turn.establish(project, created_at)
    return loaded


# It has the parameters of `_load`.
@functools.wraps(_load, assigned=("__annotations__",))
async def _check(self: Any, **args: Any) -> Loaded:
    """Return what `_load` would do, and do nothing. Raises the same failures."""
    turn = current_turn.get()
    _check_caller(turn, self, args["project"])
    _convert(turn, args["state"], args["schema"])
    return _decide(turn, args["project"], args["on_conflict"])


async def _migrate(self: Any) -> int:
    """Store the state of an existing object in today's schema, and return that schema's version.

    Nothing else changes. Raises `not-found`.
    """
    turn = current_turn.get()
    if not turn.exists:
        raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
    turn.rewrite()
    schema: int = self.schema_version
    return schema


@functools.cache
def loading_methods() -> Mapping[str, MethodSpec]:
    """Return the methods, which all types share."""
    specs = (
        MethodSpec(_load, Declaration("command", TRANSFERS, objects.LOAD, creates=True)),
        MethodSpec(_check, Declaration("query", TRANSFERS, objects.CHECK)),
        MethodSpec(_migrate, Declaration("command", TRANSFERS, objects.MIGRATE, keeps_version=True)),
    )
    return {spec.name: spec for spec in specs}


def _check_caller(turn: RunningTurn, type: Any, project: str | None) -> None:
    caller, in_project = turn.caller, project is not None or turn.project is not None
    check_transfer(caller, type)
    if caller.project or (in_project and not (caller.is_service or caller.has(projects.MANAGE))):
        raise Failure("forbidden", f"loading objects of a project requires {projects.MANAGE}", field="project")


def _decide(turn: RunningTurn, project: str | None, on_conflict: OnConflict) -> Loaded:
    if not turn.exists:
        return "created"
    if on_conflict == "skip":
        return "skipped"
    if on_conflict == "fail":
        raise Failure("exists", "the object exists already")
    if turn.project != project:
        raise Failure("conflict", "the object exists in another project: delete it first", field="project")
    return "replaced"


def _convert(turn: RunningTurn, state: dict[str, Any], schema: int) -> Any:
    try:
        return turn.load_state(state, schema)
    except Failure as newer:
        # It would be repeated until a process with newer code answers.
        raise Failure("invalid", newer.detail, field="schema") from None
    except msgspec.ValidationError as error:
        raise Failure("invalid", f"the state doesn't fit today's type: {error}", field="state") from None
    except Exception as error:  # whatever an author's upcast raises
        raise Failure("invalid", f"the state can't be upcast: {error!r}", field="state") from None


def _set_alarms(turn: RunningTurn, alarms: Mapping[str, Scheduled]) -> None:
    for name in set(turn.alarm_names()) - {EXPIRY, *alarms}:
        turn.cancel_alarm(name)
    for name, alarm in alarms.items():
        if name == EXPIRY:
            continue
        if is_name(name) is None:
            raise Failure("invalid", "the name of an alarm isn't one", field="alarms")
        turn.set_alarm(name, alarm)
