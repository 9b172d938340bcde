"""The texts of mails. Apart from the recipient's address, they contain nothing that a stranger can choose.

API keys and webhooks are therefore listed by what the fleet has chosen of them, without their names.
"""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import format_datetime, parseaddr

from aidevos.contracts.authentication import PasswordChanged
from aidevos.contracts.confirmation import CONFIRM_PATH, RESET_PATH, Letter
from aidevos.contracts.times import timestamp

DEFAULT_FROM = "AIDevOS <noreply@localhost>"
PATHS = {"verify": CONFIRM_PATH, "change": CONFIRM_PATH, "reset": RESET_PATH}
SUBJECTS = {
    "verify": "Please confirm your e-mail address",
    "change": "Please confirm your new e-mail address",
    "change_notice": "Your e-mail address is about to change",
    "reset": "Choose a new password",
    "password_notice": "Your password was changed",
}
TEXTS = {
    "verify": """Hello,

please confirm that this e-mail address is yours:

{link}

The link works until {until}. If you have not just
registered, please ignore this mail.
""",
    "change": """Hello,

you have asked to use this e-mail address for your account.
Please confirm the change:

{link}

The link works once, until {until}. If you have not
asked for this, please ignore this mail: nothing will change.
""",
    "change_notice": """Hello,

somebody who knows your password has asked to change the e-mail address
of your account. The change takes effect when the new address is confirmed.

If it was not you, please log in and change your password now.
""",
    "reset": """Hello,

you can choose a new password for your account here:

{link}

The link works once, until {until}. If you have not
asked for this, please ignore this mail: your password stays the same.
""",
    "password_notice": """Hello,

the password of your account was changed. If it was not you,
please ask for a new password now.
{credentials}""",
}

KEPT = "These still work. Please revoke those that you don't need or know:"
ENDED = "These were revoked, because they don't depend on the password:"


def compose(letter: Letter, id: str, sender: str, public_url: str, token: str, now: float) -> EmailMessage:
    """Return the mail for a letter. Raises `ValueError` for an address with a line break.

    `token` is the link's, or empty for a letter without a link. `now` is in seconds since the epoch.
    """
    name, address = parseaddr(sender or DEFAULT_FROM)
    user, _, domain = letter.to.rpartition("@")
    link = f"{public_url}{PATHS[letter.kind]}#token={token}" if token else ""
    until = timestamp(letter.until).strftime("%Y-%m-%d %H:%M UTC")
    message = EmailMessage(SMTPUTF8)
    message["From"] = Address(name, addr_spec=address)
    message["To"] = Address(username=user, domain=domain)
    message["Subject"] = SUBJECTS[letter.kind]
    message["Date"] = format_datetime(timestamp(now))
    # Every copy has the same ID, so that the receiver can recognise duplicates.
    message["Message-ID"] = f"<{id}@{address.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    # Long lines are not wrapped, so that a link can be copied from a file of the outbox folder.
    message.set_content(
        TEXTS[letter.kind].format(link=link, until=until, credentials=_list_credentials(letter.changed)), cte="7bit"
    )
    return message


def _list_credentials(changed: PasswordChanged | None) -> str:
    """Return a paragraph about the API keys and webhooks of a user whose password was changed."""
    keys = [] if changed is None else [f"- API key ending in {key.hint}, {key.created_at}" for key in changed.api_keys]
    hooks = [] if changed is None else [f"- webhook {hook.id}, {hook.created_at}" for hook in changed.webhooks]
    if changed is None or not (keys or hooks):
        return ""
    state = ENDED if changed.revoked else KEPT
    return "\n".join(["", state, "", *keys, *hooks, ""])
