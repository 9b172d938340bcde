"""The authentication service: accounts, sessions, mail, the security log and the fleet's signing keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aidevos import DurableObjectClient, Peers, Service, resource
from aidevos.contracts import access_tokens, audit
from aidevos.contracts.api_keys import HOLDER_TYPE as KEYS_TYPE
from aidevos.contracts.webhooks import HOLDER_TYPE as WEBHOOKS_TYPE
from aidevos.observability.metrics import HASHING_QUEUE, REFUSED_REQUESTS
from aidevos.observability.slow_log import note_wait
from aidevos.security.passwords import Passwords
from aidevos.security.sealed import Sealer
from aidevos.security.throttle import AddressThrottle
from aidevos.settings import Settings
from aidevos.work.retention import keep_expiring

from .access_token import AccessTokenDO
from .account import AuthenticationDO, CredentialHolders, Logins
from .audit import AuditDO
from .confirmation import ConfirmationDO, LinkAttempts
from .keys import tend_keys
from .links import LinkTokens
from .mail.folder import FolderMailer
from .mail.message import MailDO
from .mail.port import SingleFlightMailer
from .mint import Mint
from .recovery import MailRequests, RecoveryDO
from .session import SessionDO

# The folder under the home that gets all mail if there is no mail server.
OUTBOX = "outbox"
CREDENTIAL_HOLDERS = CredentialHolders({"api_keys": KEYS_TYPE, "webhooks": WEBHOOKS_TYPE})


@resource
async def mint(settings: Settings) -> AsyncIterator[Mint]:
    yield Mint(settings)


@resource
async def passwords(settings: Settings) -> AsyncIterator[Passwords]:
    found = Passwords(settings, REFUSED_REQUESTS.labels("hashing").inc, note_wait)
    HASHING_QUEUE.read_from(found, lambda each: {(): each.pending})
    yield found


@resource
async def sealer(settings: Settings) -> AsyncIterator[Sealer]:
    yield Sealer(settings)


@resource
async def logins(settings: Settings, peers: Peers) -> AsyncIterator[Logins]:
    yield Logins(AddressThrottle(settings.address_logins, settings.login_window, "logins", peers.share))


@resource
async def credential_holders() -> AsyncIterator[CredentialHolders]:
    yield CREDENTIAL_HOLDERS


@resource
async def mail_requests(settings: Settings, peers: Peers) -> AsyncIterator[MailRequests]:
    yield MailRequests(AddressThrottle(settings.address_mails, settings.login_window, "requests for mail", peers.share))


@resource
async def link_attempts(settings: Settings, peers: Peers) -> AsyncIterator[LinkAttempts]:
    yield LinkAttempts(
        AddressThrottle(settings.address_mails, settings.login_window, "attempts with links", peers.share)
    )


@resource
async def link_tokens(settings: Settings) -> AsyncIterator[LinkTokens]:
    yield LinkTokens(settings)


@resource
async def mailer(settings: Settings, peers: Peers) -> AsyncIterator[SingleFlightMailer]:
    if not settings.smtp_url:
        yield SingleFlightMailer(FolderMailer(settings.home / OUTBOX))
        return
    # Imported here, because it loads a library that a fleet without a mail server doesn't need.
    from .mail.smtp import SmtpMailer

    yield SingleFlightMailer(SmtpMailer(settings.smtp_url, peers))


async def keep_audit_log(objects: DurableObjectClient, settings: Settings) -> None:
    """Remove the entries of the security log that have reached the retention period."""
    await keep_expiring(objects, audit.TYPE, audit.SEARCH, settings.audit_age)


async def keep_access_tokens(objects: DurableObjectClient, settings: Settings) -> None:
    """Remove the records of tokens that no stored tell can carry any longer."""
    await keep_expiring(objects, access_tokens.TYPE, access_tokens.SEARCH, settings.tell_age)


service = Service(
    "authentication",
    types=(AuthenticationDO, SessionDO, AccessTokenDO, AuditDO, ConfirmationDO, RecoveryDO, MailDO),
    resources=(mint, passwords, sealer, logins, credential_holders, mail_requests, link_attempts, link_tokens, mailer),
    chores=(tend_keys, keep_audit_log, keep_access_tokens),
)
