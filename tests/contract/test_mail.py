"""The contract of mail transports: an SMTP server and the outbox folder."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import pytest

from aidevos import Peers
from aidevos.contracts.confirmation import Letter
from aidevos.contracts.errors import Failure
from aidevos.settings import SettingsError, load
from services.authentication.mail.folder import FolderMailer
from services.authentication.mail.letters import compose
from services.authentication.mail.port import Mailer, SingleFlightMailer
from services.authentication.mail.smtp import SmtpMailer
from tests.support.kits import failure
from tests.support.mails import PASSWORD, USER, SmtpServer, in_folder, token_in

Delivered = Callable[[], list[EmailMessage]]
NOW = 1_800_000_000.0


@pytest.fixture
async def smtp() -> AsyncIterator[SmtpServer]:
    server = SmtpServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=["folder", "smtp"])
async def way(request: pytest.FixtureRequest, smtp: SmtpServer, tmp_path: Path) -> tuple[Mailer, Delivered]:
    if request.param == "smtp":
        return SmtpMailer(smtp.url, Peers()), lambda: smtp.messages
    return FolderMailer(tmp_path / "outbox"), lambda: in_folder(tmp_path / "outbox")


def mail(to: str = "ada@example.org", id: str = "0001", token: str = "u.n.mac", sender: str = "") -> EmailMessage:
    letter = Letter(kind="reset", to=to, user="u", nonce="n", until=NOW + 3600)
    return compose(letter, id, sender, "https://api.example.org/base", token, NOW)


async def test_a_mail_arrives_with_its_headers_and_a_whole_link(way: tuple[Mailer, Delivered]) -> None:
    mailer, delivered = way
    token = "u" * 128 + ".n." + "m" * 43

    await mailer.send("0001", mail(token=token, sender="Fleet Ünit <noreply@api.example.org>"))

    (message,) = delivered()
    assert (message["To"], message["From"]) == ("ada@example.org", "Fleet Ünit <noreply@api.example.org>")
    assert message["Message-ID"] == "<0001@api.example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime.timestamp() == NOW
    assert message.get_content_type() == "text/plain"
    assert f"https://api.example.org/base/auth/password/reset/confirm#token={token}\r\n" in message.get_content()
    assert "2027-01-15 09:00 UTC" in message.get_content()
    assert token_in(message) == token


async def test_mails_keep_their_order_and_addresses_of_any_script(way: tuple[Mailer, Delivered]) -> None:
    mailer, delivered = way
    await mailer.send("0001", mail("дора@пример.рф"))
    await mailer.send("0002", mail("ada+x@example.org"))

    assert [message["To"].addresses[0].addr_spec for message in delivered()] == [
        "дора@пример.рф",
        "ada+x@example.org",
    ]


@pytest.mark.parametrize("to", ["ada@example.org\r\nBcc: eve@example.org", "ada\n@example.org", "ada@b\r"])
def test_no_address_becomes_another_header(to: str) -> None:
    with pytest.raises(ValueError, match="CR or LF"):
        mail(to)


def test_no_address_becomes_two() -> None:
    assert len(mail("ada@example.org, eve@example.org")["To"].addresses) == 1


async def test_the_server_that_is_away_is_tried_again(smtp: SmtpServer) -> None:
    mailer = SmtpMailer(smtp.url, Peers())
    await smtp.stop()
    away = await failure(mailer.send("1", mail()))
    await smtp.start()
    await mailer.send("1", mail())

    assert (away.code, away.retryable) == ("unavailable", True)
    assert len(smtp.taken) == 1


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
@pytest.mark.parametrize(("reply", "code"), [("451 greylisted ada@example.org", "unavailable"), ("550 no", "invalid")])
async def test_a_refusal_for_now_is_told_from_one_for_good(
    smtp: SmtpServer, command: str, reply: str, code: str
) -> None:
    smtp.refusals[command] = reply

    refused = await failure(SmtpMailer(smtp.url, Peers()).send("1", mail()))

    assert refused.code == code
    assert reply[:3] in refused.detail
    assert "ada" not in refused.detail


async def test_credentials_come_from_the_url() -> None:
    server = SmtpServer(auth=True)
    await server.start()
    login = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
    try:
        await SmtpMailer(f"smtp://{login}@127.0.0.1:{server.port}", Peers()).send("1", mail())
        wrong = await failure(SmtpMailer(f"smtp://u:p@127.0.0.1:{server.port}", Peers()).send("1", mail()))
        # With encryption required, nothing is sent to a server without it.
        plain = await failure(SmtpMailer(f"smtp+starttls://{login}@127.0.0.1:{server.port}", Peers()).send("1", mail()))
    finally:
        await server.stop()

    assert len(server.taken) == 1
    assert (wrong.code, plain.code) == ("unavailable", "unavailable")


async def test_files_are_their_owners_alone_and_the_oldest_go(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    mailer = FolderMailer(folder, limit=3)
    for number in range(5):
        await mailer.send(f"{number:04}", mail(id=f"{number:04}"))

    assert sorted(path.name for path in folder.iterdir()) == ["0002.eml", "0003.eml", "0004.eml"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_folder_that_cant_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("in the way")

    refused = await failure(FolderMailer(tmp_path / "outbox").send("1", mail()))

    assert refused.code == "unavailable"


async def test_a_repeat_waits_for_the_mail_under_way_and_makes_no_second_one(smtp: SmtpServer) -> None:
    mailer = SingleFlightMailer(SmtpMailer(smtp.url, Peers()), timeout=0.05)
    smtp.hold = asyncio.Event()
    slow = await failure(mailer.send("1", mail()))
    smtp.hold.set()
    while True:
        try:
            await mailer.send("1", mail())
            break
        except Failure:
            continue

    assert slow.code == "unavailable"
    assert len(smtp.taken) == 1


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"AIDEVOS_SMTP_URL": "smtp://u:secret@h:25"}, "AIDEVOS_MAIL_FROM"),
        ({"AIDEVOS_SMTP_URL": "http://u:secret@h", "AIDEVOS_MAIL_FROM": "a@b.org"}, "AIDEVOS_SMTP_URL"),
        ({"AIDEVOS_SMTP_URL": "smtp://u:secret@h:x", "AIDEVOS_MAIL_FROM": "a@b.org"}, "AIDEVOS_SMTP_URL"),
        ({"AIDEVOS_SMTP_URL": "smtp://", "AIDEVOS_MAIL_FROM": "a@b.org"}, "AIDEVOS_SMTP_URL"),
        ({"AIDEVOS_MAIL_FROM": "nobody"}, "AIDEVOS_MAIL_FROM"),
        ({"AIDEVOS_MAIL_FROM": "a@b.org\nBcc: c@d.org"}, "AIDEVOS_MAIL_FROM"),
    ],
)
def test_a_wrong_setting_is_named_and_its_secret_is_not(variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(variables)

    assert named in str(refused.value)
    assert "secret" not in str(refused.value)
