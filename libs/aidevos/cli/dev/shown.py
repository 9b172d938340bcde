"""Object types and tasks as `aidevos dev` shows them: methods with the signatures that their author wrote."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from aidevos.cli.dev.messages import Method, Type
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.registry import ObjectType
from aidevos.work.handlers import TaskHandler

# Values in examples, by type.
VALUES: Mapping[Any, Any] = {str: "text", int: 1, float: 1.5, bool: True, list: [], dict: {}}
_MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")


def show_types(types: Iterable[ObjectType]) -> list[Type]:
    """Return the types with their own methods, in the order of the source."""
    return [Type(type.name, [_show(spec) for spec in _own_methods(type)]) for type in types]


def show_tasks(handlers: Mapping[str, TaskHandler]) -> dict[str, str]:
    """Return the payload of each kind of task."""
    return {kind: _show_payload(handler.payload.type) for kind, handler in handlers.items()}


def _own_methods(type: ObjectType) -> list[MethodSpec]:
    own = [spec for spec in type.methods.values() if not spec.name.startswith("_")]
    return sorted(own, key=lambda spec: inspect.unwrap(spec.function).__code__.co_firstlineno)


def _show(spec: MethodSpec) -> Method:
    kind = spec.kind if spec.reaction is None else f"on {spec.reaction.pattern}"
    shown = _show_signature(inspect.unwrap(spec.function), skip=1)
    return Method(spec.name, shown, kind, str(spec.allow), _example(spec.schema.type))


def _show_payload(type: Any) -> str:
    """Return the fields of a payload as parameters, or else its type."""
    if isinstance(type, typing.cast(Any, msgspec.StructMeta)):
        return _show_signature(type)
    return f"({_Annotation(type)!r})"


def _show_signature(function: Callable[..., Any], skip: int = 0) -> str:
    """Return a signature without its first parameters. Types are shown without their modules."""
    found = inspect.signature(function, eval_str=True)
    parameters = [_simplify(parameter) for parameter in list(found.parameters.values())[skip:]]
    result = found.return_annotation
    shown = result if result is inspect.Signature.empty else _Annotation(result)
    return str(inspect.Signature(parameters, return_annotation=shown))


def _simplify(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    shown = annotation if annotation is inspect.Parameter.empty else _Annotation(annotation)
    return parameter.replace(annotation=shown)


class _Annotation:
    """A type that is shown without its module."""

    def __init__(self, type: Any) -> None:
        self._text = _MODULES.sub("", inspect.formatannotation(type))

    def __repr__(self) -> str:
        return self._text


def _example(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """Return arguments for a call: a value for each that is required."""
    return {each.name: _value(each.type) for each in msgspec.structs.fields(arguments) if each.required}


def _value(type: Any) -> Any:
    if typing.get_origin(type) is typing.Annotated:
        type = typing.get_args(type)[0]
    return VALUES.get(typing.get_origin(type) or type)
