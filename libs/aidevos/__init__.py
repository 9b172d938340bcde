"""Durable objects for Python teams.

This package exports the names that an object's author needs. Each is loaded when it is first used, so a program that
needs a part of the package, such as the settings, loads no other part.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aidevos.contracts.errors import Failure
    from aidevos.contracts.events import CloudEvent
    from aidevos.contracts.subjects import id_from_name, new_id
    from aidevos.durable.base.backoff import Backoff
    from aidevos.durable.base.slots import Slots
    from aidevos.durable.client.client import DurableObjectClient
    from aidevos.durable.hosting.peers import Peers
    from aidevos.durable.objects.alarm import LONGEST_ALARM, Alarm, AlarmRetry
    from aidevos.durable.objects.declaration import Event, command, on, query, upcast
    from aidevos.durable.objects.object import BaseDurableObject
    from aidevos.durable.objects.registry import DurableObjectRegistry
    from aidevos.durable.objects.resources import inject, resource
    from aidevos.durable.objects.schema import Schema
    from aidevos.durable.ownership.router import DurableObjectRouter
    from aidevos.observability.author_metrics import metric
    from aidevos.process.entry import run
    from aidevos.process.service import Service
    from aidevos.security.permissions import Principal, anyone, authenticated, permission, services
    from aidevos.work.handlers import TaskContext, task

__all__ = [
    "LONGEST_ALARM",
    "Alarm",
    "AlarmRetry",
    "Backoff",
    "BaseDurableObject",
    "CloudEvent",
    "DurableObjectClient",
    "DurableObjectRegistry",
    "DurableObjectRouter",
    "Event",
    "Failure",
    "Peers",
    "Principal",
    "Schema",
    "Service",
    "Slots",
    "TaskContext",
    "anyone",
    "authenticated",
    "command",
    "id_from_name",
    "inject",
    "metric",
    "new_id",
    "on",
    "permission",
    "query",
    "resource",
    "run",
    "services",
    "task",
    "upcast",
]

# The module of each name.
_MODULES = {
    "LONGEST_ALARM": "aidevos.durable.objects.alarm",
    "Alarm": "aidevos.durable.objects.alarm",
    "AlarmRetry": "aidevos.durable.objects.alarm",
    "Backoff": "aidevos.durable.base.backoff",
    "BaseDurableObject": "aidevos.durable.objects.object",
    "CloudEvent": "aidevos.contracts.events",
    "DurableObjectClient": "aidevos.durable.client.client",
    "DurableObjectRegistry": "aidevos.durable.objects.registry",
    "DurableObjectRouter": "aidevos.durable.ownership.router",
    "Event": "aidevos.durable.objects.declaration",
    "Failure": "aidevos.contracts.errors",
    "Peers": "aidevos.durable.hosting.peers",
    "Principal": "aidevos.security.permissions",
    "Schema": "aidevos.durable.objects.schema",
    "Service": "aidevos.process.service",
    "Slots": "aidevos.durable.base.slots",
    "TaskContext": "aidevos.work.handlers",
    "anyone": "aidevos.security.permissions",
    "authenticated": "aidevos.security.permissions",
    "command": "aidevos.durable.objects.declaration",
    "id_from_name": "aidevos.contracts.subjects",
    "inject": "aidevos.durable.objects.resources",
    "metric": "aidevos.observability.author_metrics",
    "new_id": "aidevos.contracts.subjects",
    "on": "aidevos.durable.objects.declaration",
    "permission": "aidevos.security.permissions",
    "query": "aidevos.durable.objects.declaration",
    "resource": "aidevos.durable.objects.resources",
    "run": "aidevos.process.entry",
    "services": "aidevos.security.permissions",
    "task": "aidevos.work.handlers",
    "upcast": "aidevos.durable.objects.declaration",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
