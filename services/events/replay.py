"""The replay of a dead letter: a separate object, so that the letter can be read and deleted meanwhile.

Promises: each replay applies the letter's request at most once. All its attempts carry one request ID,
and so does a later replay, by any caller, if it is unknown whether an earlier one was applied. A
service's message is sent as that service. A client's message is sent with the permissions that the
replaying caller has at that time, for that one call.
"""

from __future__ import annotations

import asyncio

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, services
from aidevos.contracts.dead_letters import TYPE
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.security.delegations import LIFETIME, DelegatedCall, Delegations, Mandate
from aidevos.security.mandates import load_mandate
from aidevos.security.tokens import TokenIssuer

from .dead_letter import Contents, Replayer

# Seconds that a replayed request may take; less than the tell that triggers it.
SEND_WITHIN = 8.0


class ReplayState(msgspec.Struct):
    """No state: the letter has everything."""


class ReplayDO(BaseDurableObject[ReplayState], type="replay", management="read_only", internal=True):
    """The sender of the letter with the same ID."""

    issuer: TokenIssuer = inject()
    delegations: Delegations = inject()

    @command(allow=services())
    async def send(self, number: int) -> None:
        """Send the letter's message, and tell the letter the outcome."""
        failure = await self._try(number)
        known = failure is None or not failure.is_transient
        code, detail = (failure.code, failure.detail) if failure else ("", "")
        self.tell(TYPE, self.id, "settle", number=number, code=code, detail=detail, known=known)
        await self.delete()

    async def _try(self, number: int) -> Failure | None:
        try:
            async with asyncio.timeout(SEND_WITHIN):
                contents = await self.call(TYPE, self.id, "contents", number=number)
                await self._send(msgspec.convert(contents, Contents))
        except TimeoutError:
            return Failure("unavailable", f"there was no reply within {SEND_WITHIN:.0f} seconds")
        except Failure as failure:
            return failure
        return None

    async def _send(self, letter: Contents) -> None:
        request_id = f"{TELL_PREFIX}replay.{self.id}.{letter.sends}"
        if letter.replayer is None:
            token = self.issuer.issue(
                letter.sender, roles=("service",), permissions=tuple(letter.permissions), lifetime=LIFETIME
            )
            authorization = f"Bearer {token}"
        else:
            call = DelegatedCall(letter.subject, letter.payload, request_id)
            authorization = self.delegations.authorization(await self._mandate(letter.replayer), call)
        await self.forward(
            letter.subject,
            letter.payload,
            request_id=request_id,
            content_type=letter.content_type,
            authorization=authorization,
        )

    async def _mandate(self, replayer: Replayer) -> Mandate:
        if replayer.is_user:
            return await load_mandate(self.call, replayer.id, replayer.key)
        if replayer.until <= self.now:
            raise Failure("unauthenticated", "the permissions for this replay have expired")
        return Mandate(replayer.id, tuple(replayer.roles), permissions=tuple(replayer.permissions))
