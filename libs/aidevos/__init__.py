"""Durable objects for Python teams.

This package exports the names that an object's author needs.
"""

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
