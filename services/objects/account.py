"""A ledger account: money moves between two objects as a saga of commits and tells.

Promise: a transfer never changes the sum of all balances and all transfers under way, whatever crashes
and however transfers cross. One commit of the payer holds the intent, the debit and a tell. The payee
keeps the transfer's ID until the payer has settled it. A refusal comes back as a tell and is
compensated. No turn waits for the other account, so crossing transfers can't block each other.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from aidevos import BaseDurableObject, Event, Failure, command, permission, query, services
from aidevos.contracts import subjects
from aidevos.contracts.patterns import whole

WRITE = permission("account:write")
READ = permission("account:read")

Amount = Annotated[int, Meta(ge=1, le=10**15)]
AccountId = Annotated[str, Meta(pattern=whole(subjects.ID_PATTERN))]
TransferId = Annotated[str, Meta(min_length=1, max_length=64)]
MAX_UNDER_WAY = 1000


class Outgoing(msgspec.Struct):
    to: str
    amount: int


class AccountState(msgspec.Struct):
    """The state of one account.

    `outgoing` has the debits that the payee has not answered yet. `received` has the credits that the payer
    has not settled yet.
    """

    balance: int = 0
    closed: bool = False
    outgoing: dict[str, Outgoing] = {}
    received: dict[str, int] = {}


class Balance(msgspec.Struct):
    """A balance. `under_way` is the sum of debits that no payee has confirmed yet."""

    balance: int
    under_way: int
    closed: bool


class TransferSettled(Event):
    transfer: str
    to: str
    amount: int


class TransferRefused(Event):
    transfer: str
    to: str
    amount: int
    reason: str


class Account(BaseDurableObject[AccountState], type="account", management="raw"):
    """An account in a ledger, in whole units of one currency."""

    @command(allow=WRITE)
    async def deposit(self, amount: Amount) -> int:
        """Add money from outside the ledger, and return the balance."""
        self._check_open()
        self.state.balance += amount
        return self.state.balance

    @command(allow=WRITE)
    async def transfer(self, to: AccountId, amount: Amount) -> str:
        """Send money to another account, and return the transfer's ID.

        The money leaves this account now and arrives soon. If the other account refuses it, it is returned.
        """
        self._check_open()
        if to == self.id:
            raise Failure("invalid", "an account can't pay itself", field="args.to")
        if amount > self.state.balance:
            raise Failure("insufficient-funds", f"the balance is {self.state.balance}", status=409)
        if len(self.state.outgoing) >= MAX_UNDER_WAY:
            raise Failure("overloaded", "too many transfers of this account are under way", retry_after=1.0)
        self.state.balance -= amount
        self.state.outgoing[self.request_id] = Outgoing(to, amount)
        self.tell("account", to, "credit", transfer=self.request_id, source=self.id, amount=amount)
        return self.request_id

    @command(allow=WRITE)
    async def close(self) -> None:
        """Close the account, so that it neither accepts nor sends money. Its balance must be zero."""
        if self.state.balance or self.state.outgoing:
            raise Failure("conflict", "the account has a balance or transfers under way")
        self.state.closed = True

    @query(allow=READ)
    async def balance(self) -> Balance:
        """Return the balance and the sum of transfers under way."""
        under_way = sum(item.amount for item in self.state.outgoing.values())
        return Balance(self.state.balance, under_way, self.state.closed)

    @command(allow=services())
    async def credit(self, transfer: TransferId, source: AccountId, amount: Amount) -> None:
        """Accept or refuse the money, as the payee, and answer the payer by a tell."""
        if transfer not in self.state.received:
            if self.state.closed:
                self.tell("account", source, "refuse", transfer=transfer, reason="the account is closed")
                return
            self.state.balance += amount
            self.state.received[transfer] = amount
        self.tell("account", source, "settle", transfer=transfer)

    @command(allow=services())
    async def settle(self, transfer: TransferId) -> None:
        """Complete a transfer, as the payer, once the money has arrived."""
        outgoing = self.state.outgoing.pop(transfer, None)
        if outgoing is None:
            return
        self.tell("account", outgoing.to, "forget", transfer=transfer)
        self.emit(TransferSettled(transfer, outgoing.to, outgoing.amount))

    @command(allow=services())
    async def refuse(self, transfer: TransferId, reason: str) -> None:
        """Return the money to the balance, as the payer, after a refusal."""
        outgoing = self.state.outgoing.pop(transfer, None)
        if outgoing is None:
            return
        self.state.balance += outgoing.amount
        self.emit(TransferRefused(transfer, outgoing.to, outgoing.amount, reason))

    @command(allow=services())
    async def forget(self, transfer: TransferId) -> None:
        """Forget a transfer, as the payee, once the payer has settled it and will not repeat it."""
        self.state.received.pop(transfer, None)

    def _check_open(self) -> None:
        if self.state.closed:
            raise Failure("conflict", "the account is closed")
