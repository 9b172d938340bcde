"""The AsyncAPI 3.0 document of the NATS interface: each announced type's calls, queries and events.

A channel is a subject; its key is the subject without variables. The reply to a call goes to the
caller's own inbox: the method's result, or a problem document under the headers of the NATS service
API.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec

from aidevos.contracts import envelope, objects, placement_events, subjects
from aidevos.contracts.errors import Problem
from aidevos.contracts.objects import EventDescription, ReactionDescription, TypeDescription

from .fleet import component_names, describe_method, schema_copier
from .paths import COMPONENTS, Json, reference

ABOUT = """\
Durable objects over NATS. A request to `do.<type>.<id>.<method>` calls a method, and a request to
`query.<type>.<name>` searches all objects of a type. Events arrive on `event.<type>.<id>.<name>` and in the JetStream
stream `EVENTS`. A message to `tell.<type>.<id>.<method>`, with the payload and headers of a call, is stored by
JetStream, acknowledged, and applied exactly once, without a reply. Payloads are JSON, or MessagePack if `Content-Type`
says so."""
CLOUD_EVENTS = "application/cloudevents+json"
TEXT: Json = {"type": "string"}
STATE: Json = {"type": "object", "properties": {"state": {"type": "object", "description": "By the type's own schema"}}}
PAGE: Json = {"limit": {"type": "integer"}, "cursor": {"type": ["string", "null"]}}
OBJECT = reference("DurableObject")
# The calls that every type accepts: method, subject, description, arguments and result.
MANAGEMENT: tuple[tuple[str, str, str, Json, Json], ...] = (
    (objects.CREATE, "do.{type}.{id}.", "Create the object", STATE | {"required": []}, OBJECT),
    (objects.READ, "do.{type}.{id}.", "Show the object", {"type": "object"}, OBJECT),
    (
        objects.REPLACE,
        "do.{type}.{id}.",
        "Replace the state",
        STATE | {"required": ["state"]},
        reference("DurableObject"),
    ),
    (objects.DELETE, "do.{type}.{id}.", "Delete the object", {"type": "object"}, {"type": "null"}),
    (
        objects.PENDING,
        "do.{type}.{id}.",
        "List the object's alarms and the messages in its outbox, without what they hold",
        {"type": "object"},
        reference("PendingWork"),
    ),
    (objects.HIBERNATE, "do.{type}.{id}.", "Let the object leave memory", {"type": "object"}, {"type": "null"}),
    (objects.LIST, "query.{type}.", "List objects", {"type": "object", "properties": PAGE}, reference("ObjectPage")),
)
# Those that types with the option `history` accept as well.
VERSION: Json = {"type": "object", "properties": {"version": {"type": "integer"}}, "required": ["version"]}
COMPARED: Json = {"before": {"type": "integer"}, "after": {"type": ["integer", "null"]}}
HISTORY: tuple[tuple[str, str, Json, Json], ...] = (
    (
        objects.VERSIONS,
        "List versions, the newest first",
        {"type": "object", "properties": PAGE},
        reference("VersionPage"),
    ),
    (objects.READ_VERSION, "Show a version with its state", VERSION, reference("VersionState")),
    (
        objects.COMPARE,
        "Compare two versions, or one with the state of now",
        {"type": "object", "properties": COMPARED, "required": ["before"]},
        reference("Comparison"),
    ),
    (objects.RESTORE, "Make a version the state of now", VERSION, OBJECT),
)
VARIABLES = {
    "type": {"description": f"A type of objects: {subjects.TYPE_PATTERN}"},
    "id": {"description": f"The object's ID: {subjects.ID_PATTERN}"},
    "name": {"description": "The event's name"},
}
CALL_HEADERS = {
    envelope.AUTHORIZATION: TEXT | {"description": "`Bearer <token>`, or `Bearer` or `ApiKey` with an API key"},
    envelope.REQUEST_ID: TEXT | {"minLength": 1, "maxLength": envelope.REQUEST_ID_LIMIT},
    envelope.DEADLINE: TEXT | {"description": "Milliseconds that the caller still waits"},
    envelope.IF_MATCH: TEXT | {"description": 'The version to change, such as `"3"`, or `*`'},
    envelope.TRACEPARENT: TEXT | {"description": "W3C Trace Context"},
    envelope.TRACESTATE: TEXT | {"description": "W3C Trace Context"},
    envelope.CONTENT_TYPE: TEXT | {"enum": [envelope.JSON, envelope.MSGPACK]},
}
# fmt: off
CLOUD_EVENT = {
    "specversion": {"const": "1.0"}, "id": TEXT, "source": TEXT, "type": TEXT, "time": TEXT | {"format": "date-time"},
    "datacontenttype": {"const": envelope.JSON}, "data": {"type": "object"},
}
PROBLEM = {
    "name": "problem", "title": "The call failed (RFC 9457)",
    "headers": reference("ProblemHeaders"), "payload": reference("Problem"),
}
SERVER = {
    "host": "{address}", "protocol": "nats", "description": "As `nats_url` in var/fleet.json",
    "variables": {"address": {"default": "127.0.0.1:4222"}},
    "security": [{"$ref": "#/components/securitySchemes/nats"}],
}
# fmt: on


def describe(announced: list[TypeDescription], internal: bool = False) -> Json:
    """Return the whole document. Internal types are left out by default."""
    document = _Document()
    for name, subject, does, args, result in MANAGEMENT:
        document.add_call(subject + name, f"_any.{name}", f"{does}. Requires `objects:manage`.", args, result)
    for name, does, args, result in HISTORY:
        about = f"{does}, of a type with the option `history`. Requires `objects:manage`."
        document.add_call(f"do.{{type}}.{{id}}.{name}", f"_any.{name}", about, args, result)
    shown = [each for each in announced if internal or not each.internal]
    shown.append(placement_events.describe())
    for type in shown:
        document.add_type(type)
    for type in shown:
        for reaction in type.reactions:
            document.add_reaction(type.type, reaction)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "AIDevOS", "version": version("aidevos"), "description": ABOUT},
        "defaultContentType": envelope.JSON,
        "servers": {"fleet": SERVER},
        "channels": document.channels,
        "operations": document.operations,
        "components": {
            "schemas": _shared_schemas() | document.schemas,
            "messages": {"problem": PROBLEM},
            "securitySchemes": {"nats": {"type": "userPassword", "description": "`client`, as in var/fleet.json"}},
        },
    }


class _Document:
    """The parts of the document that grow with each type."""

    def __init__(self) -> None:
        self.channels: Json = {}
        self.operations: Json = {}
        self.schemas: Json = {}

    def add_type(self, type: TypeDescription) -> None:
        names, copy_raw = component_names(type), schema_copier(type)

        def copy(schema: Json) -> Json:
            return _drop_discriminators(copy_raw(schema))  # type: ignore[no-any-return]

        self.schemas |= {names[name]: copy(schema) for name, schema in type.defs.items()}
        for method in type.methods:
            name = f".{method.name}"
            subject, key = f"do.{type.type}.{{id}}{name}", f"do.{type.type}{name}"
            self.add_call(subject, key, describe_method(method), copy(method.args), copy(method.result))
        for query in type.queries:
            subject = subjects.query(type.type, query.name)
            self.add_call(subject, subject, f"Allowed: {query.allow}.", copy(query.args), copy(query.result))
        for event in type.events:
            self._add_event(type.type, event, copy(event.data))

    def add_call(self, subject: str, key: str, does: str, args: Json, result: Json) -> None:
        call = {"name": key, "headers": reference("CallHeaders"), "payload": args}
        returned = {"name": f"{key}.result", "payload": result}
        replies = {"result": returned, "problem": {"$ref": "#/components/messages/problem"}}
        self._add_channel(key, subject, does, {"call": call})
        self.channels[f"{key}.reply"] = {"address": None, "description": "The caller's inbox", "messages": replies}
        fields = {"action": "receive", "summary": does.partition("\n")[0]}
        self.operations[key] = fields | _operation(key, "call") | {"reply": _operation(f"{key}.reply", *replies)}

    def add_reaction(self, type: str, reaction: ReactionDescription) -> None:
        """Add a reaction of a type, with a channel for its events unless one exists."""
        key, address = f"on.{type}.{reaction.method}", _address(reaction.pattern)
        channel = next((name for name, found in self.channels.items() if found["address"] == address), key)
        if channel == key:
            message = {"name": key, "contentType": CLOUD_EVENTS, "payload": reference("CloudEvent")}
            self._add_channel(key, address, f"Events of `{reaction.pattern}`", {"event": message})
        summary = reaction.doc.partition("\n")[0] or f"Events that `{type}` reacts to"
        self.operations[key] = {"action": "receive", "summary": summary, **_operation(channel, "event")}

    def _add_event(self, type: str, event: EventDescription, data: Json) -> None:
        key = f"event.{type}.{event.name}"
        own = {"type": "object", "properties": {"type": {"const": f"{type}.{event.name}"}, "data": data}}
        payload = {"allOf": [reference("CloudEvent"), own]}
        message = {"name": key, "contentType": CLOUD_EVENTS, "payload": payload}
        self._add_channel(key, subjects.event(type, "{id}", event.name), event.doc, {"event": message})
        self.operations[key] = {"action": "send", **_operation(key, "event")}

    def _add_channel(self, key: str, address: str, does: str, messages: Json) -> None:
        parameters = {name: about for name, about in VARIABLES.items() if f"{{{name}}}" in address}
        fields = {"address": address, "description": does}
        self.channels[key] = fields | {"parameters": parameters, "messages": messages}


def _operation(channel: str, *messages: str) -> Json:
    """Return the channel and messages of an operation or a reply."""
    place = f"#/channels/{channel}"
    return {"channel": {"$ref": place}, "messages": [{"$ref": f"{place}/messages/{name}"} for name in messages]}


def _address(pattern: str) -> str:
    """Return a pattern of events as the address of a channel."""
    parts = pattern.split(".")
    if parts[-1] == ">":
        parts[-1:] = ["*"] * (5 - len(parts))
    names = ("event", "{type}", "{id}", "{name}")
    return ".".join(name if part == "*" else part for name, part in zip(names, parts, strict=True))


def _shared_schemas() -> Json:
    """Return the schemas that all types share."""
    versions = (objects.VersionPage, objects.VersionState, objects.Comparison)
    shown = (objects.DurableObject, objects.ObjectPage, objects.PendingWork, *versions, Problem)
    _, schemas = msgspec.json.schema_components(shown, ref_template=COMPONENTS + "{name}")
    failed = {envelope.ERROR_CODE: TEXT, envelope.ERROR: TEXT}
    properties = CLOUD_EVENT | {
        "project": TEXT | {"description": "The project that the object belongs to, if any"},
        envelope.TRACEPARENT: TEXT | {"description": "The trace in which it happened, if any (W3C Trace Context)"},
    }
    return schemas | {
        "CallHeaders": {"type": "object", "properties": CALL_HEADERS},
        "ProblemHeaders": {"type": "object", "properties": failed, "required": list(failed)},
        "CloudEvent": {"type": "object", "properties": properties, "required": list(CLOUD_EVENT)},
    }


def _drop_discriminators(schema: Any) -> Any:
    """Return the schema without discriminators, which mean something else in AsyncAPI."""
    if isinstance(schema, dict):
        return {
            name: _drop_discriminators(value)
            for name, value in schema.items()
            if not (name == "discriminator" and isinstance(value, dict) and "propertyName" in value)
        }
    return [_drop_discriminators(item) for item in schema] if isinstance(schema, list) else schema
