"""The description of the NATS door (AsyncAPI 3.0): each announced type's calls, queries and events.

A channel is a subject; its key is the subject without its variables. A call's reply comes to the caller's
own inbox: the method's result, or a problem document under the headers of the NATS service API.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec

from aidevos.contracts import envelope, objects, subjects
from aidevos.contracts.errors import Problem
from aidevos.contracts.objects import EventDescription, ReactionDescription, TypeDescription

from .openapi_components import COMPONENTS, component_names, mover
from .openapi_parts import Json, reference

ABOUT = """\
Durable objects over NATS. A request to `do.<type>.<id>.<method>` calls a method, one to `query.<type>.<name>`
asks all objects of a type, and `event.<type>.<id>.<name>` tells what happened, also from the JetStream stream
`EVENTS`. What is published to `tell.<type>.<id>.<method>`, with a call's payload and headers, is stored by JetStream,
acknowledged, and applied exactly once, without a reply. Payloads are JSON, or MessagePack where `Content-Type`
says so."""
MANAGEMENT = {
    objects.CREATE: "Make the object; needs `objects:manage`.",
    objects.READ: "Show the object; needs `objects:manage`.",
    objects.REPLACE: "Replace the state of an object; needs `objects:manage`.",
    objects.DELETE: "Delete the object; needs `objects:manage`.",
}


def describe(types: list[TypeDescription]) -> Json:
    """The whole document."""
    document: Json = {
        "asyncapi": "3.0.0",
        "info": {"title": "AIDevOS", "version": version("aidevos"), "description": ABOUT},
        "defaultContentType": envelope.JSON,
        "servers": {"fleet": _server()},
        "channels": {},
        "operations": {},
        "components": {
            "schemas": _shared_schemas(),
            "messages": _shared_messages(),
            "securitySchemes": {"nats": {"type": "userPassword", "description": "`client`, as in var/fleet.json"}},
        },
    }
    for method, about in MANAGEMENT.items():
        _add_call(document, "do.{type}.{id}." + method, f"_any.{method}", about, *_management(method))
    _add_call(
        document,
        "query.{type}." + objects.LIST,
        "_any.list",
        "List objects; needs `objects:manage`.",
        {"type": "object", "properties": {"limit": {"type": "integer"}, "cursor": {"type": ["string", "null"]}}},
        reference("ObjectPage"),
    )
    for described in types:
        _add_type(document, described)
    for described in types:
        for reaction in described.reactions:
            _add_reaction(document, described.type, reaction)
    return document


def _add_type(document: Json, described: TypeDescription) -> None:
    type, moved = described.type, mover(described)
    names = component_names(described)
    document["components"]["schemas"] |= {names[name]: _plain(moved(schema)) for name, schema in described.defs.items()}
    for method in described.methods:
        subject = f"do.{type}.{{id}}.{method.name}"
        about = f"{method.doc}\n\n{method.kind.capitalize()}; allowed: {method.allow}.".strip()
        _add_call(
            document,
            subject,
            f"do.{type}.{method.name}",
            about,
            _plain(moved(method.args)),
            _plain(moved(method.result)),
        )
    for query in described.queries:
        subject = subjects.query(type, query.name)
        about = f"Allowed: {query.allow}."
        _add_call(document, subject, subject, about, _plain(moved(query.args)), _plain(moved(query.result)))
    for event in described.events:
        _add_event(document, type, event, _plain(moved(event.data)))


def _add_call(document: Json, subject: str, key: str, about: str, args: Json, result: Json) -> None:
    document["channels"][key] = {
        "address": subject,
        "description": about,
        "parameters": _parameters(subject),
        "messages": {
            "call": {
                "name": key,
                "headers": reference("CallHeaders"),
                "payload": args,
            }
        },
    }
    document["channels"][f"{key}.reply"] = {
        "address": None,
        "description": "The caller's inbox",
        "messages": {
            "result": {"name": f"{key}.result", "payload": result},
            "problem": {"$ref": "#/components/messages/problem"},
        },
    }
    document["operations"][key] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{key}"},
        "summary": about.partition("\n")[0],
        "messages": [{"$ref": f"#/channels/{key}/messages/call"}],
        "reply": {
            "channel": {"$ref": f"#/channels/{key}.reply"},
            "messages": [{"$ref": f"#/channels/{key}.reply/messages/{name}"} for name in ("result", "problem")],
        },
    }


def _add_event(document: Json, type: str, event: EventDescription, data: Json) -> None:
    key = f"event.{type}.{event.name}"
    subject = subjects.event(type, "{id}", event.name)
    envelope_schema = {
        "allOf": [
            reference("CloudEvent"),
            {"type": "object", "properties": {"type": {"const": f"{type}.{event.name}"}, "data": data}},
        ]
    }
    document["channels"][key] = {
        "address": subject,
        "description": event.doc,
        "parameters": _parameters(subject),
        "messages": {"event": {"name": key, "contentType": "application/cloudevents+json", "payload": envelope_schema}},
    }
    document["operations"][key] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{key}"},
        "messages": [{"$ref": f"#/channels/{key}/messages/event"}],
    }


def _add_reaction(document: Json, type: str, reaction: ReactionDescription) -> None:
    """The events may be those of a channel that is there already."""
    key, channels = f"on.{type}.{reaction.method}", document["channels"]
    address = _address(reaction.pattern)
    channel = next((name for name, found in channels.items() if found["address"] == address), key)
    if channel == key:
        channels[key] = {
            "address": address,
            "description": f"Events of `{reaction.pattern}`",
            "parameters": _parameters(address),
            "messages": {
                "event": {
                    "name": key,
                    "contentType": "application/cloudevents+json",
                    "payload": reference("CloudEvent"),
                }
            },
        }
    document["operations"][key] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": reaction.doc.partition("\n")[0] or f"What `{type}` reacts to",
        "messages": [{"$ref": f"#/channels/{channel}/messages/event"}],
    }


def _address(pattern: str) -> str:
    """A pattern of events as the address of a channel."""
    parts = pattern.split(".")
    if parts[-1] == ">":
        parts[-1:] = ["*"] * (5 - len(parts))
    names = ("event", "{type}", "{id}", "{name}")
    return ".".join(name if part == "*" else part for name, part in zip(names, parts, strict=True))


def _server() -> Json:
    return {
        "host": "{address}",
        "protocol": "nats",
        "description": "As `nats_url` in var/fleet.json",
        "variables": {"address": {"default": "127.0.0.1:4222"}},
        "security": [{"$ref": "#/components/securitySchemes/nats"}],
    }


def _parameters(subject: str) -> Json:
    found = {
        "type": {"description": f"A type of objects: {subjects.TYPE_PATTERN}"},
        "id": {"description": f"The object's ID: {subjects.ID_PATTERN}"},
        "name": {"description": "The event's name"},
    }
    return {name: about for name, about in found.items() if f"{{{name}}}" in subject}


def _management(method: str) -> tuple[Json, Json]:
    state: Json = {"type": "object", "description": "By the type's own schema"}
    if method == objects.DELETE:
        return {"type": "object"}, {"type": "null"}
    if method == objects.READ:
        return {"type": "object"}, reference("DurableObject")
    needed = ["state"] if method == objects.REPLACE else []
    return {"type": "object", "properties": {"state": state}, "required": needed}, reference("DurableObject")


def _shared_schemas() -> Json:
    _, schemas = msgspec.json.schema_components(
        (objects.DurableObject, objects.ObjectPage, Problem), ref_template=COMPONENTS + "{name}"
    )
    text = {"type": "string"}
    call = {
        envelope.AUTHORIZATION: text | {"description": "`Bearer <token>` or `ApiKey <key>`"},
        envelope.REQUEST_ID: text | {"minLength": 1, "maxLength": envelope.REQUEST_ID_LIMIT},
        envelope.DEADLINE: text | {"description": "Milliseconds that the caller still waits"},
        envelope.IF_MATCH: text | {"description": 'The version that is changed, `"3"`, or `*`'},
        envelope.TRACEPARENT: text | {"description": "W3C Trace Context"},
        envelope.CONTENT_TYPE: text | {"enum": [envelope.JSON, envelope.MSGPACK]},
    }
    failed = {envelope.ERROR_CODE: text, envelope.ERROR: text}
    cloud_event = {
        "specversion": {"const": "1.0"},
        "id": text,
        "source": text,
        "type": text,
        "time": text | {"format": "date-time"},
        "datacontenttype": {"const": envelope.JSON},
        "data": {"type": "object"},
    }
    return schemas | {
        "CallHeaders": {"type": "object", "properties": call},
        "ProblemHeaders": {"type": "object", "properties": failed, "required": list(failed)},
        "CloudEvent": {
            "type": "object",
            "properties": cloud_event | {"project": text | {"description": "Which the object belongs to, if any"}},
            "required": list(cloud_event),
        },
    }


def _shared_messages() -> Json:
    return {
        "problem": {
            "name": "problem",
            "title": "The call failed (RFC 9457)",
            "headers": reference("ProblemHeaders"),
            "payload": reference("Problem"),
        }
    }


def _plain(schema: Any) -> Any:
    """The schema without discriminators, which are something else in AsyncAPI."""
    if isinstance(schema, dict):
        return {
            name: _plain(value)
            for name, value in schema.items()
            if not (name == "discriminator" and isinstance(value, dict) and "propertyName" in value)
        }
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema
