"""The relay's requests, which take no message if this process serves their object.

Promise: a request here has the effect and the outcome that it would have over NATS, under the same request ID and the
same principal. So if it must be repeated over NATS, because the object moves meanwhile or nothing here answers before
the deadline, it is still applied once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.ownership.router import DurableObjectRouter
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.failures import log_unexpected
from aidevos.durable.turns.headers import Reply
from aidevos.observability import tracing
from aidevos.security.permissions import Principal

# Less than the number of waiting commits at which a host dispatches no further requests.
AT_ONCE = 128
# Refusals of a process that doesn't serve the object, or can't now. Over NATS, others may serve it soon.
_ASK_OTHERS = frozenset({"moved", "unavailable"})


class LocalCaller:
    """Sends requests of this process, which `principal` is, to objects of any process."""

    def __init__(self, environment: Environment, router: DurableObjectRouter, principal: Principal) -> None:
        self._environment = environment
        self._router = router
        self._principal = principal
        self._in_progress = 0

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        authorization: str | None = None,
        request_id: str | None = None,
        deadline: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request as `ObjectCaller` describes it. Raises `Failure`."""
        owned = self._find_served(subject) if self._in_progress < AT_ONCE else ""
        if owned and request_id is not None and authorization is None:
            sent = {**(headers or {}), envelope.REQUEST_ID: request_id}
            context = tracing.current()
            if context is not None:
                context.inject(sent)
            if deadline is not None:
                sent[envelope.DEADLINE] = envelope.encode_deadline(deadline)
            answer = await self._dispatch(owned, payload, sent, deadline)
            if not answer.failed:
                return answer.payload
            failure = Failure.decode(answer.payload)
            if failure.code not in _ASK_OTHERS:
                raise failure
        return await self._environment.client.request(
            subject, payload, authorization=authorization, request_id=request_id, deadline=deadline, headers=headers
        )

    def _find_served(self, subject: str) -> str:
        """Return the subject of this process for a call, or "" if the process doesn't serve the object."""
        _, type, id, method = subject.split(".", 3)
        partitions = self._environment.partitions
        partition = partitions.of(type, id)
        return f"{subjects.owned(type, partition)[:-1]}{id}.{method}" if partitions.serves(type, partition) else ""

    async def _dispatch(
        self, subject: str, payload: bytes, headers: Mapping[str, str], deadline: float | None
    ) -> Reply:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(answer: Reply) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._in_progress += 1
        try:
            self._router.dispatch(subject, payload, headers, self._principal, respond)
            async with asyncio.timeout(deadline):
                return await answered
        except TimeoutError:
            return Reply.of(Failure("unavailable", "this process didn't answer before the deadline"))
        except Failure as failure:
            return Reply.of(failure)
        except Exception as error:
            return Reply.of(log_unexpected(error, subject))
        finally:
            self._in_progress -= 1
