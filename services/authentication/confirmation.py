"""What a user is asked to confirm by a link in a mail: an address, another address, a new password.

Promises: a link works once, until it expires, for what and whom it was made, and while the user is
active and has the address that it went to. What it does is done by the object concerned, under a
call whose repeat changes nothing; only then the link is spent. So a crash in between loses neither.
Links to a new password or another address die with the password under which they were asked for, so
whoever has lost a password to a thief gets rid of the thief by changing it.

A change of address is decided by one commit, the user's own. Before it, the user announces the new
address and the address is reserved; whoever else wants it meanwhile asks the user, which then gives
the announcement up. No turn waits for another user's turn, so crossing changes don't block each
other. The old address is released by a tell of the deciding commit.
"""

from __future__ import annotations

from typing import Literal, NewType

import msgspec

from aidevos import BaseDurableObject, Failure, anyone, authenticated, command, inject, new_id, services
from aidevos.contracts import users
from aidevos.contracts.authentication import ACCOUNT_TYPE, account_id
from aidevos.contracts.confirmation import (
    CONFIRMATION_TYPE,
    MAIL_TYPE,
    ConfirmedEmail,
    Letter,
    LinkToken,
    wrong_link,
)
from aidevos.contracts.users import Email, Password, User
from aidevos.security import audit
from aidevos.security.emails import check_email
from aidevos.security.passwords import check_policy
from aidevos.security.throttle import AddressThrottle
from aidevos.settings import Settings

from .links import Links

Purpose = Literal["verify", "change", "reset"]
HOUR = 3600.0


class Link(msgspec.Struct):
    """What a link does, the address it went to, and until when it works, in seconds since the epoch."""

    purpose: Purpose
    email: str
    until: float


class ConfirmationState(msgspec.Struct):
    """The links that may still be used, by their nonces, and when mails of each purpose were sent."""

    links: dict[str, Link] = {}
    sent: dict[Purpose, list[float]] = {}


LinkAttempts = NewType("LinkAttempts", AddressThrottle)


class ConfirmationDO(BaseDurableObject[ConfirmationState], type=CONFIRMATION_TYPE, management="read_only"):
    """The links in mails to one user, under the user's ID."""

    settings: Settings = inject()
    tokens: Links = inject()
    attempts: LinkAttempts = inject()

    @command(allow=services())
    async def welcome(self, email: str) -> None:
        """Ask a new user to confirm the address."""
        self._mail_link("verify", email)

    @command(allow=services())
    async def recover(self, email: str) -> None:
        """Mail the user a link to a new password, if it is active, has this address and had few such mails."""
        user = await self._find_user()
        address = user.email if user and user.status == "active" else None
        if address and account_id(address) == account_id(email) and self._may_mail("reset"):
            self._mail_link("reset", address)
            audit.record(self, "password.reset_requested", target=self.id, actor="")

    @command(allow=authenticated())
    async def verify_email(self) -> None:
        """Mail a link that confirms one's own address."""
        user = await self._own_user()
        if user.email is None or user.email_verified:
            raise Failure("conflict", "there is no address that has yet to be confirmed")
        self._check_limit("verify")
        self._mail_link("verify", user.email)

    @command(allow=authenticated(), confidential=True)
    async def change_email(self, password: Password, email: Email) -> None:
        """Mail a link to the new address that makes it one's own, and tell the old one."""
        user = await self._own_user()
        email = check_email(email)
        if email == user.email:
            raise Failure("conflict", "this is your e-mail address already")
        self._check_limit("change")
        await self.call(
            ACCOUNT_TYPE,
            account_id(user.username),
            "check_password",
            password=password,
            action="email.change_requested",
            session=self.caller.session,
        )
        self._drop("change")
        self._mail_link("change", email)
        if user.email is not None:
            self._mail(
                Letter(kind="change_notice", to=user.email, user=self.id, until=self.now + self.settings.tell_age)
            )
        audit.record(self, "email.change_requested", target=self.id)

    @command(allow=anyone(), confidential=True)
    async def confirm_email(self, token: LinkToken) -> ConfirmedEmail:
        """Use a link that confirms an address or a change of it; `exists` when somebody else has it by now."""
        link = self._link(token, ("verify", "change"))
        user = await self._active_user()
        if link.purpose == "verify":
            await self._confirm(user, link.email)
        else:
            await self._change(user, link.email)
        self._drop(link.purpose)
        action = "email.verified" if link.purpose == "verify" else "email.changed"
        audit.record(self, action, target=self.id, actor=self.id)
        return ConfirmedEmail(email=link.email)

    @command(allow=anyone(), confidential=True)
    async def reset_password(self, token: LinkToken, new_password: Password) -> None:
        """Use a link to take another password. Every session of the user ends."""
        link = self._link(token, ("reset",))
        user = await self._active_user()
        if user.email != link.email:
            raise wrong_link()
        own = (user.username, link.email, link.email.partition("@")[0], user.full_name)
        check_policy(new_password, self.settings.password_min_length, own, field="args.new_password")
        account = account_id(user.username)
        await self.call(ACCOUNT_TYPE, account, "reset_password", user=self.id, new=new_password)
        # Whoever has the link has the address.
        self.tell(users.TYPE, self.id, "confirm_email", email=link.email)
        self._drop("reset", "change")
        audit.record(self, "password.reset", target=self.id, actor=self.id)

    @command(allow=services())
    async def void_links(self) -> None:
        """End what was asked for under a password that is none any more."""
        self._drop("reset", "change")
        if not self.state.links and not self.state.sent:
            # A turn that only returned would make an object.
            await self.delete()

    @command(allow=services())
    async def forget(self) -> None:
        """Forget the user: no link works any more."""
        await self.delete()

    def _link(self, token: str, purposes: tuple[Purpose, ...]) -> Link:
        self.attempts.admit(self.client_address, self.now)
        link = self.state.links.get(self.tokens.nonce(self.id, token))
        if link is None or link.purpose not in purposes or link.until <= self.now:
            raise wrong_link()
        return link

    def _drop(self, *purposes: Purpose) -> None:
        for purpose in purposes:
            for nonce in self._nonces(purpose):
                del self.state.links[nonce]

    def _nonces(self, purpose: Purpose) -> list[str]:
        """Of all links for this purpose, the oldest first."""
        return [nonce for nonce, link in self.state.links.items() if link.purpose == purpose]

    async def _confirm(self, user: User, email: str) -> None:
        if user.email != email:
            raise wrong_link()
        await self.call(users.TYPE, self.id, "confirm_email", email=email)

    async def _change(self, user: User, email: str) -> None:
        change = self.request_id
        await self.call(users.TYPE, self.id, "announce_email", email=email, change=change)
        primary = account_id(user.username)
        try:
            await self.call(ACCOUNT_TYPE, account_id(email), "reserve_email", user=self.id, primary=primary)
        except Failure as failure:
            if failure.code == "exists":
                raise Failure("exists", "the email is taken", field="args.email") from None
            raise
        await self.call(users.TYPE, self.id, "take_email", email=email, change=change)

    async def _own_user(self) -> User:
        if not self.caller.acts_for(self.id, "profile:self"):
            raise Failure("not-found", "there is no such user")
        return msgspec.convert(await self.call(users.TYPE, self.id, "show"), User)

    async def _active_user(self) -> User:
        user = await self._find_user()
        if user is None or user.status != "active":
            raise wrong_link()
        return user

    async def _find_user(self) -> User | None:
        try:
            return msgspec.convert(await self.call(users.TYPE, self.id, "show"), User)
        except Failure as failure:
            if failure.code == "not-found":
                return None
            raise

    def _may_mail(self, purpose: Purpose) -> bool:
        return len(self._recent(purpose)) < self.settings.mails_per_hour

    def _check_limit(self, purpose: Purpose) -> None:
        if not self._may_mail(purpose):
            left = self._recent(purpose)[0] + HOUR - self.now
            raise Failure("rate-limited", "too many mails within an hour", retry_after=left)

    def _recent(self, purpose: Purpose) -> list[float]:
        return [at for at in self.state.sent.get(purpose, []) if at > self.now - HOUR]

    def _mail_link(self, purpose: Purpose, email: str) -> None:
        state, settings = self.state, self.settings
        age = settings.reset_age if purpose == "reset" else settings.confirm_age
        state.sent[purpose] = [*self._recent(purpose), self.now]
        state.links = {nonce: link for nonce, link in state.links.items() if link.until > self.now}
        for nonce in self._nonces(purpose)[: (1 - settings.mails_per_hour) or None]:
            del state.links[nonce]
        nonce, until = new_id(), self.now + age
        state.links[nonce] = Link(purpose, email, until)
        self._mail(Letter(kind=purpose, to=email, user=self.id, nonce=nonce, until=until))

    def _mail(self, letter: Letter) -> None:
        self.tell(MAIL_TYPE, new_id(), "send", letter=letter)
