"""Requests for password resets, from users who can't log in.

Promise: a request doesn't reveal whether an account exists. The answer leaves before anything about
the address is looked up: the look-up is a tell to an object for which no caller waits. The number of
these objects is fixed, so requests for unknown addresses leave nothing behind.
"""

from __future__ import annotations

from typing import NewType

import msgspec

from aidevos import BaseDurableObject, Failure, anyone, command, inject, services
from aidevos.contracts.authentication import ACCOUNT_TYPE, account_id
from aidevos.contracts.confirmation import CONFIRMATION_TYPE, RECOVERY_TYPE, recovery_id
from aidevos.contracts.users import Email
from aidevos.security.emails import check_email
from aidevos.security.throttle import AddressThrottle

LOOK_UP = "look-up-"
MailRequests = NewType("MailRequests", AddressThrottle)


class RecoveryState(msgspec.Struct):
    """An empty state."""


class RecoveryDO(BaseDurableObject[RecoveryState], type=RECOVERY_TYPE, management="read_only", internal=True):
    """Accepts requests for password resets."""

    requests: MailRequests = inject()

    @command(allow=anyone())
    async def request_reset(self, email: Email) -> None:
        """Send a link for a new password to this address, if a user has it."""
        if recovery_id(email) != self.id:
            raise Failure("invalid", f"requests for this address go to {recovery_id(email)}", field="id")
        await self.requests.admit(self.client_address, self.now, self.call)
        email = check_email(email)
        self.tell(RECOVERY_TYPE, LOOK_UP + self.id, "look_up", email=email)

    @command(allow=services())
    async def look_up(self, email: str) -> None:
        """Start the recovery of the user who has this address, if there is one."""
        user = await self.call(ACCOUNT_TYPE, account_id(email), "holder")
        if user:
            self.tell(CONFIRMATION_TYPE, user, "recover", email=email)
