"""Links in mail: asking for one, the page that it leads to, and using it.

A link leads to a page that does nothing until its button is pressed: programs that follow the links in a mail don't
use them up. The token is the URL's fragment, so it stands in no request line, no log and no Referer.
"""

from __future__ import annotations

from typing import Any

from aidevos.contracts import subjects
from aidevos.contracts.confirmation import (
    CONFIRM_PATH,
    CONFIRMATION_TYPE,
    RECOVERY_TYPE,
    RESET_PATH,
    ConfirmBody,
    ConfirmedEmail,
    EmailBody,
    ForgottenBody,
    ResetBody,
    recovery_id,
    user_of,
)
from aidevos.contracts.errors import Failure
from aidevos.settings import Settings

from ..forwarder import Forwarder
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..pages import page
from .api_router import APIRouter
from .auth import AuthRouter
from .operation import Access, Target, Text, get, post


def _own(request: HttpRequest, body: Any) -> str:
    if not subjects.is_id(request.principal.subject):
        raise Failure("forbidden", "this needs the token of a user")
    return request.principal.subject


def _of_token(request: HttpRequest, body: Any) -> str:
    try:
        return user_of(body.token)
    except Failure as failure:
        failure.field = "token"
        raise


OWN = Target(CONFIRMATION_TYPE, _own)
OF_TOKEN = Target(CONFIRMATION_TYPE, _of_token)
RECOVERY = Target(RECOVERY_TYPE, lambda request, body: recovery_id(body.email))
FORGOTTEN, EMAIL, VERIFY = "/auth/password/reset", "/auth/email", "/auth/email/verify"
OPEN: dict[str, Any] = {"access": Access.OPEN}
MAILED: dict[str, Any] = {"status": 202, "returns": "If there is something to mail, it is being mailed"}
FORGET = "Have a link to a new password mailed"
ALIKE = "The answer is the same whether anybody has the address or not."
RESET = "Use the link: choose another password, which ends every session"
CHANGE = "Have a link mailed to another address that makes it the caller's"
NOTICE = "The address changes when the link is used. A notice goes to the present address at once."
SHOW_PAGE = "Show the page that a link in a mail leads to"
PAGE: dict[str, Any] = OPEN | {"answer": Text("text/html"), "headers": ()}


class ConfirmationRouter(APIRouter):
    tag = "accounts"
    needs = "Needs the token of a user."
    headers = AuthRouter.headers
    body_limit = AuthRouter.body_limit
    rows = (
        post(
            FORGOTTEN,
            "forgot_password",
            FORGET,
            (RECOVERY, "request_reset"),
            body=ForgottenBody,
            about=ALIKE,
            **OPEN,
            **MAILED,
        ),
        post(RESET_PATH, "reset_password", RESET, (OF_TOKEN, "reset_password"), body=ResetBody, **OPEN),
        post(EMAIL, "change_email", CHANGE, (OWN, "change_email"), body=EmailBody, about=NOTICE, **MAILED),
        post(VERIFY, "verify_email", "Have a link mailed that confirms the address", (OWN, "verify_email"), **MAILED),
        post(
            CONFIRM_PATH,
            "confirm_email",
            "Use the link: confirm the address",
            (OF_TOKEN, "confirm_email"),
            ConfirmedEmail,
            ConfirmBody,
            secret=True,
            **OPEN,
        ),
    )

    def __init__(self, forwarder: Forwarder, settings: Settings) -> None:
        super().__init__(forwarder, settings)
        self._page = page("link.html")

    @get(RESET_PATH, "show_reset_page", SHOW_PAGE, **PAGE)
    async def show_reset_page(self, request: HttpRequest) -> HttpResponse:
        return self._page

    @get(CONFIRM_PATH, "show_confirm_page", SHOW_PAGE, **PAGE)
    async def show_confirm_page(self, request: HttpRequest) -> HttpResponse:
        return self._page
