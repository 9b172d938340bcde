"""The route from a message to the mailbox of its object in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.execution import TurnRunner
from aidevos.durable.turns.failures import NEEDS
from aidevos.durable.turns.gate import Gate
from aidevos.durable.turns.headers import Reply, fingerprint, parse_call_chain, parse_deadline, parse_request_key
from aidevos.durable.turns.request import Request
from aidevos.observability import tracing
from aidevos.security.permissions import ANONYMOUS, Principal, Rule


class DurableObjectRouter:
    """Routes calls to objects. `track` supervises the task of a re-entrant call, which bypasses the mailbox."""

    def __init__(
        self,
        environment: Environment,
        catalogue: Catalogue,
        runner: TurnRunner,
        gate: Gate,
        track: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._environment = environment
        self._catalogue = catalogue
        self._runner = runner
        self._gate = gate
        self._track = track

    def dispatch(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str],
        principal: Principal,
        respond: Callable[[Reply], None],
        *,
        stored: bool = False,
        waited: float = 0.0,
    ) -> None:
        """Authorize a call that arrived on `dop.<partition>.<type>.<id>.<method>`, and queue it for its object.

        `respond` is called once, now or later, with the answer. The headers must be trusted. `waited` is for how many
        seconds the call has been in this process. `stored` marks a tell from a stream, whose outcome is kept for
        `tell_age`. Raises `Failure`.
        """
        partition, type_name, id, method_name = subjects.parse_owned(subject)
        type, method = self._environment.registry.method(type_name, method_name)
        if not subjects.is_id(id):
            raise Failure("invalid", f"an ID matches {subjects.ID_PATTERN}", field="id")
        if principal.narrowed:
            principal = principal.for_object(id)
        check_allowed(principal, type, method_name, method.allow)
        if method.is_command and envelope.QUERY_ONLY in headers:
            raise Failure("query-only", f"{type_name}.{method_name} is a command")
        self._gate.check_call(principal, type, method_name)
        request = self._request(type, id, method, payload, headers, principal, respond, stored=stored, waited=waited)
        if (request.chain or method.reentrant) and self._bypasses_mailbox(request):
            task = self._runner.reenter(self._catalogue.get(type_name, id), request)
            if task is not None:
                self._track(task)
        else:
            self._catalogue.enqueue(request, partition)

    def _bypasses_mailbox(self, request: Request) -> bool:
        """Return True if the object waits for this call, or if it is a re-entrant query and a command runs or waits."""
        if subjects.join_object_id(request.type.name, request.id) in request.chain:
            return True
        activation = self._catalogue.get(request.type.name, request.id)
        return request.method.reentrant and activation is not None and activation.mailbox.has_command

    def is_open(self, subject: str) -> bool:
        """Return True if a call on this subject needs no credential."""
        try:
            _, type, _, method = subjects.parse_owned(subject)
            return self._environment.registry.method(type, method)[1].allow.check(ANONYMOUS)
        except Failure:
            return False

    def _request(
        self,
        type: ObjectType,
        id: str,
        method: MethodSpec,
        payload: bytes,
        headers: Mapping[str, str],
        principal: Principal,
        respond: Callable[[Reply], None],
        *,
        stored: bool,
        waited: float,
    ) -> Request:
        limits = self._environment.limits
        left = parse_deadline(headers, limits.default_deadline, limits.max_deadline)
        chain = parse_call_chain(headers)
        content_type = headers.get(envelope.CONTENT_TYPE)
        key = parse_request_key(principal, headers) if method.is_command else None
        if key is not None and stored:
            key = key._replace(tell=True)
        ephemeral = ""
        if key is not None and method.confidential:
            ephemeral, key = key.key, None
        if_match = headers.get(envelope.IF_MATCH)
        trace, named = None, headers.get(envelope.TRACEPARENT)
        if named is not None or tracing.recorder is not None:
            trace = tracing.begin(named, headers.get(envelope.TRACESTATE))
        return Request(
            type,
            id,
            method,
            principal,
            method.decode_arguments(payload, content_type),
            key=key,
            fingerprint=fingerprint(method.name, payload, if_match) if key or ephemeral else b"",
            if_match=if_match,
            deadline=asyncio.get_running_loop().time() + left,
            chain=chain,
            content_type=content_type,
            respond=respond,
            ephemeral=ephemeral,
            address=headers.get(envelope.CLIENT_ADDRESS, ""),
            request_id=headers.get(envelope.HTTP_REQUEST_ID) or headers.get(envelope.REQUEST_ID, ""),
            trace=trace,
            waited=waited,
        )


def check_allowed(caller: Principal, type: ObjectType, name: str, allow: Rule) -> None:
    """Raise `forbidden` unless the rule allows the caller this method, search or view of the type."""
    if not allow.check(caller):
        raise Failure("forbidden", f"{type.name}.{name} needs {allow}", extra={NEEDS: str(allow)})
