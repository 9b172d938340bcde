"""Links in mails by which a user confirms an address, a change of address, or a new password.

Promises: a link works once, before it expires, only for its purpose and user, and only while that
user is active. A link that verifies an address or resets a password also needs the user to still
have the address that it was sent to. The object concerned applies the effect first, in an idempotent
call, and only then is the link spent. A crash in between loses neither the effect nor the link.
Changing the password voids every link that resets the password or changes the address. A user whose
password was stolen therefore shuts out the thief by changing it.

One commit decides a change of address: the commit of the user's own object. When the link is used,
the user's object first announces the new address, and then the address is reserved. If another user
wants the address in the meantime, its object asks the first user's object, which then drops the
announcement. No turn waits for another user's turn, so crossing changes can't block each other. The
deciding commit releases the old address by a tell.
"""

from __future__ import annotations

from typing import Literal, NewType

import msgspec

from aidevos import BaseDurableObject, Failure, anyone, authenticated, command, inject, new_id, services
from aidevos.contracts import users
from aidevos.contracts.authentication import ACCOUNT_TYPE, PasswordChanged, account_id
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

from .links import LinkTokens

Purpose = Literal["verify", "change", "reset"]
HOUR = 3600.0


class Link(msgspec.Struct):
    """A link's purpose, the address that it was sent to, and its expiry in seconds since the epoch."""

    purpose: Purpose
    email: str
    until: float


class ConfirmationState(msgspec.Struct):
    """The unused links by nonce, and for each purpose the times of recent mails in seconds since the epoch."""

    links: dict[str, Link] = {}
    sent: dict[Purpose, list[float]] = {}


LinkAttempts = NewType("LinkAttempts", AddressThrottle)


class ConfirmationDO(BaseDurableObject[ConfirmationState], type=CONFIRMATION_TYPE, management="read_only"):
    """The links mailed to one user, under the user's ID."""

    settings: Settings = inject()
    tokens: LinkTokens = inject()
    attempts: LinkAttempts = inject()

    @command(allow=services())
    async def welcome(self, email: str) -> None:
        """Mail a new user a link that confirms the address."""
        self._mail_link("verify", email)

    @command(allow=services())
    async def recover(self, email: str) -> None:
        """Mail the user a link for a new password.

        Does nothing if the user is inactive, has another address, or has reached the limit of mails per hour.
        """
        user = await self._find_user()
        address = user.email if user and user.status == "active" else None
        if address and account_id(address) == account_id(email) and self._may_mail("reset"):
            self._mail_link("reset", address)
            audit.record(self, "password.reset_requested", target=self.id, actor="")

    @command(allow=authenticated())
    async def verify_email(self) -> None:
        """Mail the calling user a link; `confirm_email` confirms the address with it.

        Raises `conflict` if the user has no unconfirmed address, and `rate-limited`.
        """
        user = await self._load_own_user()
        if user.email is None or user.email_verified:
            raise Failure("conflict", "you have no unconfirmed e-mail address")
        self._check_limit("verify")
        self._mail_link("verify", user.email)

    @command(allow=authenticated(), confidential=True)
    async def change_email(self, password: Password, email: Email) -> None:
        """Mail a confirmation link to the calling user's new address, and a notice to the old one.

        The address changes, and is reserved, only when `confirm_email` uses the link. An earlier link
        that changes the address becomes void. Raises `conflict` for the present address, and `rate-limited`.
        """
        user = await self._load_own_user()
        email = check_email(email)
        if email == user.email:
            raise Failure("conflict", "this is already your e-mail address")
        self._check_limit("change")
        await self.call(
            ACCOUNT_TYPE,
            account_id(user.username),
            "check_password",
            password=password,
            action="email.change_requested",
            session=self.caller.session,
        )
        self._drop_links("change")
        self._mail_link("change", email)
        if user.email is not None:
            self._mail(
                Letter(kind="change_notice", to=user.email, user=self.id, until=self.now + self.settings.tell_age)
            )
        audit.record(self, "email.change_requested", target=self.id)

    @command(allow=anyone(), confidential=True)
    async def confirm_email(self, token: LinkToken) -> ConfirmedEmail:
        """Use a link that confirms an address or a change of address.

        Raises `exists` if another user has taken the new address in the meantime.
        """
        link = await self._find_link(token, ("verify", "change"))
        user = await self._load_active_user()
        if link.purpose == "verify":
            await self._confirm_address(user, link.email)
        else:
            await self._change_address(user, link.email)
        self._drop_links(link.purpose)
        action = "email.verified" if link.purpose == "verify" else "email.changed"
        audit.record(self, action, target=self.id, actor=self.id)
        return ConfirmedEmail(email=link.email)

    @command(allow=anyone(), confidential=True)
    async def reset_password(
        self, token: LinkToken, new_password: Password, revoke_keys: bool = True
    ) -> PasswordChanged:
        """Use a link to set a new password, which also confirms the address. Every session of the user ends.

        So do the user's API keys and webhooks, unless `revoke_keys` is false.
        """
        link = await self._find_link(token, ("reset",))
        user = await self._load_active_user()
        if user.email != link.email:
            raise wrong_link()
        personal = (user.username, link.email, link.email.partition("@")[0], user.full_name)
        check_policy(new_password, self.settings.password_min_length, personal, field="args.new_password")
        account = account_id(user.username)
        reply = await self.call(
            ACCOUNT_TYPE, account, "reset_password", user=self.id, new=new_password, revoke_keys=revoke_keys
        )
        # The link was mailed to the address, so using it also confirms the address.
        self.tell(users.TYPE, self.id, "confirm_email", email=link.email)
        self._drop_links("reset", "change")
        audit.record(self, "password.reset", target=self.id, actor=self.id)
        return msgspec.convert(reply, PasswordChanged)

    @command(allow=services())
    async def void_links(self, changed: PasswordChanged | None = None) -> None:
        """Void the links that reset the password or change the address, because the password was changed.

        Mails the user a notice of what has `changed`.
        """
        self._drop_links("reset", "change")
        user = await self._find_user() if changed else None
        if user is not None and user.email is not None:
            until = self.now + self.settings.tell_age
            self._mail(Letter(kind="password_notice", to=user.email, user=self.id, until=until, changed=changed))
        if not self.state.links and not self.state.sent:
            # Without the deletion, this tell would leave an empty object behind.
            await self.delete()

    @command(allow=services())
    async def forget(self) -> None:
        """Void every link and forget the user."""
        await self.delete()

    async def _find_link(self, token: str, purposes: tuple[Purpose, ...]) -> Link:
        await self.attempts.admit(self.client_address, self.now, self.call)
        link = self.state.links.get(self.tokens.read_nonce(self.id, token))
        if link is None or link.purpose not in purposes or link.until <= self.now:
            raise wrong_link()
        return link

    def _drop_links(self, *purposes: Purpose) -> None:
        for purpose in purposes:
            for nonce in self._list_nonces(purpose):
                del self.state.links[nonce]

    def _list_nonces(self, purpose: Purpose) -> list[str]:
        """Return the nonces of all links for this purpose, oldest first."""
        return [nonce for nonce, link in self.state.links.items() if link.purpose == purpose]

    async def _confirm_address(self, user: User, email: str) -> None:
        if user.email != email:
            raise wrong_link()
        await self.call(users.TYPE, self.id, "confirm_email", email=email)

    async def _change_address(self, user: User, email: str) -> None:
        change = self.request_id
        await self.call(users.TYPE, self.id, "announce_email", email=email, change=change)
        primary = account_id(user.username)
        try:
            await self.call(ACCOUNT_TYPE, account_id(email), "reserve_email", user=self.id, primary=primary)
        except Failure as failure:
            if failure.code == "exists":
                raise Failure("exists", "another user has this e-mail address", field="args.email") from None
            raise
        await self.call(users.TYPE, self.id, "take_email", email=email, change=change)

    async def _load_own_user(self) -> User:
        if not self.caller.acts_for(self.id, users.OWN_PROFILE):
            raise Failure("not-found", "this user doesn't exist")
        return msgspec.convert(await self.call(users.TYPE, self.id, "show"), User)

    async def _load_active_user(self) -> User:
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
        return len(self._list_recent_mails(purpose)) < self.settings.mails_per_hour

    def _check_limit(self, purpose: Purpose) -> None:
        if not self._may_mail(purpose):
            left = self._list_recent_mails(purpose)[0] + HOUR - self.now
            raise Failure("rate-limited", "too many mails within an hour", retry_after=left)

    def _list_recent_mails(self, purpose: Purpose) -> list[float]:
        return [at for at in self.state.sent.get(purpose, []) if at > self.now - HOUR]

    def _mail_link(self, purpose: Purpose, email: str) -> None:
        state, settings = self.state, self.settings
        age = settings.reset_age if purpose == "reset" else settings.confirm_age
        state.sent[purpose] = [*self._list_recent_mails(purpose), self.now]
        state.links = {nonce: link for nonce, link in state.links.items() if link.until > self.now}
        for nonce in self._list_nonces(purpose)[: (1 - settings.mails_per_hour) or None]:
            del state.links[nonce]
        nonce, until = new_id(), self.now + age
        state.links[nonce] = Link(purpose, email, until)
        self._mail(Letter(kind=purpose, to=email, user=self.id, nonce=nonce, until=until))

    def _mail(self, letter: Letter) -> None:
        self.tell(MAIL_TYPE, new_id(), "send", letter=letter)
