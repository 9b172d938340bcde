"""Where whoever has forgotten a password asks for a reset.

Promise: nobody learns here whether there is an account. The answer is given before anything about the
address is looked up: the look-up is a tell to an object that no stranger waits for. There is a fixed
number of these objects, so requests for unknown addresses leave nothing behind.
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
    """Nothing is kept."""


class RecoveryDO(BaseDurableObject[RecoveryState], type=RECOVERY_TYPE, management="read_only", internal=True):
    """Takes requests for password resets."""

    requests: MailRequests = inject()

    @command(allow=anyone())
    async def request_reset(self, email: Email) -> None:
        """Have a link to a new password mailed to this address, if a user has it."""
        if recovery_id(email) != self.id:
            raise Failure("invalid", f"this address is asked for at {recovery_id(email)}", field="id")
        self.requests.admit(self.client_address, self.now)
        email = check_email(email)
        self.tell(RECOVERY_TYPE, LOOK_UP + self.id, "look_up", email=email)

    @command(allow=services())
    async def look_up(self, email: str) -> None:
        """Find the user whose address this is."""
        user = await self.call(ACCOUNT_TYPE, account_id(email), "holder")
        if user:
            self.tell(CONFIRMATION_TYPE, user, "recover", email=email)
