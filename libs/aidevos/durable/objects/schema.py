"""Validation of values from outside against the types that methods declare.

msgspec decodes and validates. In addition, this module names the field in every error in one format. It refuses unknown
fields even in structs that allow them, and values that MongoDB can't hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.contracts.field_errors import add_errors, locate
from aidevos.durable.store import codec

T = TypeVar("T")
Visit = Callable[[Any, str], None]


class Schema(Generic[T]):
    """Decodes and converts values of one type. `field` names the value in errors."""

    def __init__(self, type: Any, field: str) -> None:
        self.type = type
        self._field = field
        self._json = msgspec.json.Decoder(type)
        self._msgpack = msgspec.msgpack.Decoder(type)
        information = inspect.type_info(type)
        self._visit = _strict_visitor(information, {})

    def decode(self, payload: bytes, content_type: str | None) -> T:
        """Decode a payload of JSON (the default) or MessagePack.

        Raises `bad-request`, `unsupported-media-type` or `invalid`.
        """
        if (
            content_type is None
            or content_type == envelope.JSON
            or content_type.partition(";")[0].strip() == envelope.JSON
        ):
            decoder: Any = self._json
            loose: Any = msgspec.json.decode
        elif content_type == envelope.MSGPACK:
            decoder, loose = self._msgpack, msgspec.msgpack.decode
        else:
            raise Failure(
                "unsupported-media-type", f"send {envelope.JSON} or {envelope.MSGPACK}", field=envelope.CONTENT_TYPE
            )
        try:
            if self._visit is not None:
                return self.convert(loose(payload))
            value: T = decoder.decode(payload)
            codec.check_storable(value, self._field)
        except msgspec.ValidationError as error:
            raise self._invalid(error, lambda: loose(payload)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Failure("bad-request", f"the payload can't be read: {error}", field=self._field) from None
        except RecursionError:
            raise Failure("invalid", f"values nest at most {codec.MAX_DEPTH} levels deep", field=self._field) from None
        return value

    def convert(self, value: Any) -> T:
        """Convert maps, lists and scalars to a value of the type. Raises `invalid`."""
        codec.check_storable(value, self._field)
        try:
            if self._visit is not None:
                self._visit(value, self._field)
            converted: T = msgspec.convert(value, self.type, str_keys=True)
        except msgspec.ValidationError as error:
            raise self._invalid(error, lambda: value) from None
        except Failure as unknown:
            raise self._with_all_errors(unknown, lambda: value) from None
        return converted

    def _invalid(self, error: msgspec.ValidationError, read: Callable[[], Any]) -> Failure:
        what, path = locate(error)
        failure = Failure("invalid", what, field=(self._field + path)[: codec.PATH_LIMIT])
        return self._with_all_errors(failure, read)

    def _with_all_errors(self, first: Failure, read: Callable[[], Any]) -> Failure:
        return add_errors(first, self.type, read, self._field, closed=True)


def nests_freely(information: inspect.Type, above: tuple[Any, ...] = ()) -> bool:
    """True if values of a type can nest to any depth, because it contains `Any` or itself."""
    if isinstance(information, inspect.AnyType | inspect.RawType | inspect.CustomType):
        return True
    cls = getattr(information, "cls", None)
    if cls is not None and cls in above:
        return True
    inner = [getattr(information, name) for name in ("type", "value_type", "item_type") if hasattr(information, name)]
    inner += [*getattr(information, "types", ()), *getattr(information, "item_types", ())]
    inner += [field.type for field in getattr(information, "fields", ())]
    return any(nests_freely(item, (*above, cls)) for item in inner)


def _strict_visitor(information: inspect.Type, known: dict[Any, Visit]) -> Visit | None:
    """Return a visitor that refuses unknown fields in values of a type, or None if there can't be any."""
    if isinstance(information, inspect.Metadata):
        return _strict_visitor(information.type, known)
    if isinstance(information, inspect.StructType):
        return _strict_struct_visitor(information, known)
    if isinstance(information, inspect.DictType):
        below = _strict_visitor(information.value_type, known)
        return below and _each_visitor(below, dict, lambda value: ((f".{key}", item) for key, item in value.items()))
    if isinstance(information, inspect.CollectionType):
        below = _strict_visitor(information.item_type, known)
        return below and _each_visitor(below, list, lambda value: ((f"[{at}]", item) for at, item in enumerate(value)))
    if isinstance(information, inspect.UnionType):
        structs = [_strict_visitor(option, known) for option in information.types]
        members = [visit for visit in structs if visit is not None]
        return members[0] if len(members) == 1 else None
    return None


def _strict_struct_visitor(information: inspect.StructType, known: dict[Any, Visit]) -> Visit | None:
    if information.cls in known:
        return known[information.cls]
    fields: dict[str, Visit | None] = {}

    def visit(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            return
        for name, item in value.items():
            if name not in fields and name != information.tag_field:
                detail = f"Object contains unknown field `{name}`"
                raise Failure("invalid", detail, field=f"{path}.{name}"[: codec.PATH_LIMIT])
            below = fields.get(name)
            if below is not None:
                below(item, f"{path}.{name}")

    known[information.cls] = visit
    for field in information.fields:
        fields[field.encode_name] = _strict_visitor(field.type, known)
    needless = information.forbid_unknown_fields and not any(fields.values())
    return None if needless or information.array_like else visit


def _each_visitor(below: Visit, kind: type, items: Callable[[Any], Any]) -> Visit:
    def visit(value: Any, path: str) -> None:
        if isinstance(value, kind):
            for place, item in items(value):
                below(item, path + place)

    return visit
