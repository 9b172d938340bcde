"""Applies one stored tell to its object, with the rights that its sender had, or buries it as a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aidevos.contracts import envelope
from aidevos.contracts.dead_letters import Letter
from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.resolving import resolve_when_ready
from aidevos.durable.delivery.anonymous_letters import AnonymousLetters
from aidevos.durable.delivery.crash_suspects import CRASHES
from aidevos.durable.delivery.dead_letters import bury
from aidevos.durable.delivery.stored_tell import Tell, make_letter
from aidevos.durable.delivery.tell_meter import UNKNOWN, count_done, count_failed
from aidevos.durable.ownership.router import DurableObjectRouter
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.headers import Reply
from aidevos.security.permissions import ANONYMOUS, Principal

DEADLINE_MS = 10_000
# The caller's headers that apply to the call itself.
FORWARDED = (envelope.CONTENT_TYPE, envelope.IF_MATCH, envelope.TRACEPARENT, envelope.TRACESTATE)


class TellApplier:
    """Applies tells to the objects of one host. `share` returns this host's share of a limit for all hosts."""

    def __init__(
        self,
        environment: Environment,
        router: DurableObjectRouter,
        admission: Admission,
        limiter: RateLimiter,
        share: Callable[[int], int],
    ) -> None:
        self._environment = environment
        self._router = router
        self._admission = admission
        self._limiter = limiter
        self._anonymous_letters = AnonymousLetters(share)

    async def apply_or_bury(self, tell: Tell, attempt: int, crashes: int) -> None:
        """Apply a tell, or bury it. `crashes` is how many of its attempts have killed their process.

        Raises `Failure` if it must be tried again.
        """
        caller = ANONYMOUS
        type, _, rest = tell.target.partition(".")
        method, types = rest.partition(".")[2], self._environment.registry.types
        try:
            if tell.headers.get(envelope.AUTHORIZATION) or not self._router.is_open(self._owned_subject(tell)):
                caller = await self._admission.admit_stored(tell.headers.get(envelope.AUTHORIZATION), tell.at)
            if crashes >= CRASHES:
                raise _FinalRefusal("internal", "every attempt to apply the tell killed its process")
            await self._spend(tell, caller)
            if tell.at + self._environment.limits.records.tell_age < self._environment.clock.now():
                raise _FinalRefusal("unavailable", "the tell was not applied in time")
            await self._apply(tell, caller)
        except Failure as failure:
            tried_again = failure.retryable and not isinstance(failure, _FinalRefusal)
            known = type in types and method in types[type].methods
            count_failed(type, method if known else UNKNOWN, failure, "failed" if tried_again else "buried")
            if tried_again:
                raise
            hidden = self._environment.registry.is_confidential(type, method)
            await self._bury(tell, failure, attempts=crashes + attempt, caller=caller, hidden=hidden)
        else:
            count_done(type, method, self._environment.clock.now() - tell.at)

    async def bury_stray(self, tell: Tell, failure: Failure) -> None:
        """Bury a tell that no type takes. Raises `Failure` if it must be tried again."""
        caller = ANONYMOUS
        try:
            caller = await self._admission.admit_stored(tell.headers.get(envelope.AUTHORIZATION), tell.at)
            await self._spend(tell, caller)
        except Failure as refusal:
            if refusal.retryable:
                raise
        await self._bury(tell, failure, attempts=0, caller=caller, hidden=True)

    async def _spend(self, tell: Tell, caller: Principal) -> None:
        """Spend one request of the sender's rate limit."""
        if not caller.is_service:
            await resolve_when_ready(self._limiter.spend, caller, "", tell.target.partition(".")[0])

    async def _bury(self, tell: Tell, failure: Failure, *, attempts: int, caller: Principal, hidden: bool) -> None:
        now = self._environment.clock.now()
        letter: Letter | None = make_letter(tell, failure, now=now, attempts=attempts, caller=caller, hidden=hidden)
        if letter is not None and caller is ANONYMOUS:
            letter = self._anonymous_letters.strip(letter, now)
        if letter is not None:
            await bury(self._environment.client, letter)

    async def _apply(self, tell: Tell, caller: Principal) -> None:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(answer: Reply) -> None:
            if not answered.done():
                answered.set_result(answer)

        headers = {name: tell.headers[name] for name in FORWARDED if name in tell.headers}
        headers |= {envelope.REQUEST_ID: tell.request_id, envelope.DEADLINE: str(DEADLINE_MS)}
        self._router.dispatch(self._owned_subject(tell), tell.payload, headers, caller, respond, stored=True)
        answer = await answered
        if answer.failed:
            failure = Failure.decode(answer.payload)
            if failure.code == "deadline-exceeded":
                raise Failure("unavailable", failure.detail)
            raise failure

    def _owned_subject(self, tell: Tell) -> str:
        """Return the subject on which a call reaches the owner of its partition."""
        return f"dop.{self._environment.partitions.of_target(tell.target)}.{tell.target}"


class _FinalRefusal(Failure):
    """A refusal that is final, even if its code is retryable."""
