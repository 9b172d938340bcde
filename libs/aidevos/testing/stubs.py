"""Stand-ins for types that a kit doesn't host."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.durable.client.reference import type_of
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.ownership.router import check_allowed
from aidevos.security.permissions import Principal


class StubCall(NamedTuple):
    """A call, tell or query that a stub has answered. The ID of a query is empty."""

    id: str
    method: str
    args: dict[str, Any]


class Stub:
    """Answers for all objects of a type, by method. `calls` holds what it was asked.

    An answer is a value, an exception to raise, or a function, which may be async. A function is called with the
    object's ID and the arguments by name. If the stub is made from a class, callers and arguments are refused, and
    results checked, as the class declares; otherwise the stub takes what comes.
    """

    def __init__(self, target: str | type[Any], answers: dict[str, Any]) -> None:
        self.type = target if isinstance(target, str) else type_of(target)
        self.calls: list[StubCall] = []
        self._answers = answers
        self._registry = None if isinstance(target, str) else DurableObjectRegistry([target])
        if self._registry is not None:
            for method in answers:
                self._registry.method(self.type, method)

    async def answer(self, id: str, method: str, payload: bytes, caller: Principal) -> bytes:
        """Return the encoded answer. Raises `Failure`."""
        if method not in self._answers:
            known = ", ".join(self._answers)
            raise Failure("unknown-method", f"the stub of {self.type} has no {method}, only {known}", field="method")
        if self._registry is not None:
            type, spec = self._registry.method(self.type, method)
            check_allowed(caller, type, method, spec.allow)
            spec.decode_arguments(payload, envelope.JSON)
        call = StubCall(id, method, msgspec.json.decode(payload or b"{}"))
        self.calls.append(call)
        result = msgspec.json.encode(await _evaluate(self._answers[method], call))
        if self._registry is not None:
            self._registry.method(self.type, method)[1].check_result(result, envelope.JSON)
        return result


async def _evaluate(answer: Any, call: StubCall) -> Any:
    if isinstance(answer, BaseException):
        raise answer
    if not callable(answer):
        return answer
    result = answer(call.id, **call.args)
    return await result if inspect.isawaitable(result) else result
