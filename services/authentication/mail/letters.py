"""The texts of mails. Nothing that a stranger has chosen stands in them but the recipient's address."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import format_datetime, parseaddr

from aidevos.contracts.confirmation import CONFIRM_PATH, RESET_PATH, Letter
from aidevos.contracts.times import timestamp

DEFAULT_FROM = "AIDevOS <noreply@localhost>"
PATHS = {"verify": CONFIRM_PATH, "change": CONFIRM_PATH, "reset": RESET_PATH}
SUBJECTS = {
    "verify": "Please confirm your e-mail address",
    "change": "Please confirm your new e-mail address",
    "change_notice": "Your e-mail address is about to change",
    "reset": "Choose a new password",
}
TEXTS = {
    "verify": """Hello,

please confirm that this address is yours:

{link}

The link works until {until}. If you have not
registered anywhere just now, please ignore this mail.
""",
    "change": """Hello,

somebody, hopefully you, wants to use this address for an account.
Please confirm that:

{link}

The link works once, until {until}. If it was not you,
please ignore this mail: nothing will change.
""",
    "change_notice": """Hello,

somebody who knows your password has asked to change the e-mail address
of your account to another one. It changes when that one is confirmed.

If it was not you, please log in and change your password now.
""",
    "reset": """Hello,

here you can choose a new password for your account:

{link}

The link works once, until {until}. If you have not
asked for it, please ignore this mail: your password stays as it is.
""",
}


def compose(letter: Letter, id: str, sender: str, public_url: str, token: str, now: float) -> EmailMessage:
    """The mail, to one recipient; raises `ValueError` for an address with a line break."""
    name, address = parseaddr(sender or DEFAULT_FROM)
    user, _, domain = letter.to.rpartition("@")
    link = f"{public_url}{PATHS[letter.kind]}#token={token}" if token else ""
    until = timestamp(letter.until).strftime("%Y-%m-%d %H:%M UTC")
    message = EmailMessage(SMTPUTF8)
    message["From"] = Address(name, addr_spec=address)
    message["To"] = Address(username=user, domain=domain)
    message["Subject"] = SUBJECTS[letter.kind]
    message["Date"] = format_datetime(timestamp(now))
    # The same for every copy, so that a receiver can tell one.
    message["Message-ID"] = f"<{id}@{address.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    # Long lines stay whole, so that a link can be copied from the file as well.
    message.set_content(TEXTS[letter.kind].format(link=link, until=until), cte="7bit")
    return message
