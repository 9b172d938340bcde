"""`aidevos login` and `logout`."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import urlsplit

from typer import Argument, Option, prompt

from aidevos.cli.contexts import LOCAL, Context, changed_contexts, load_contexts
from aidevos.cli.errors import CommandError
from aidevos.cli.logins import Login, keep
from aidevos.cli.remote import call
from aidevos.cli.target import Target, find_target
from aidevos.client.errors import SecondFactorNeeded

# Hosts to which a request doesn't leave the machine.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
OTP_LENGTH = 6

Url = Annotated[
    str, Argument(metavar="URL", help="The fleet's URL; by default that of the fleet in use.", show_default=False)
]
Name = Annotated[str, Option(metavar="NAME", help="The context's name; by default the URL's host.", show_default=False)]
Username = Annotated[
    str, Option("--username", "-u", metavar="NAME", help="The username or e-mail address.", show_default=False)
]
Otp = Annotated[str, Option(metavar="CODE", help="The code of the second factor.", show_default=False)]


def login(
    url: Url = "",
    name: Name = "",
    username: Username = "",
    password_stdin: Annotated[bool, Option("--password-stdin", help="Read the password from standard input.")] = False,
    otp: Otp = "",
    browser: Annotated[bool, Option("--browser", help="Log in on a page of the fleet, in the browser.")] = False,
    with_token: Annotated[
        bool, Option("--with-token", help="Read an access token or an API key from standard input.")
    ] = False,
) -> None:
    """Log in to a fleet, and use it from now on.

    Example: aidevos login https://api.example.org --username ada

    It asks for what the options don't say. The credentials are stored in the user's configuration folder, where only
    the user can read them, and renewed as needed. In CI, set AIDEVOS_URL and AIDEVOS_TOKEN instead.
    """
    context = Context(url=_check_url(url or find_target().url))
    if with_token:
        context.access_token = _read_line("a token or an API key")
        call(lambda api: api.call("GET", "/auth/me"), target=Target(context.url, context.access_token))
    elif browser:
        from aidevos.cli.browser import log_in_by_browser

        keep(context, log_in_by_browser(context.url))
    else:
        username = username or prompt("Username", err=True)
        password = _read_line("a password") if password_stdin else prompt("Password", hide_input=True, err=True)
        keep(context, _log_in(context.url, username, password, otp))
    _store(context, name)


def _store(context: Context, name: str) -> None:
    """Use a context from now on, and say so. Raises `CommandError` for a name that can't be used."""
    with changed_contexts() as stored:
        name = name or stored.name_of(context.url) or urlsplit(context.url).netloc
        if name == LOCAL:
            raise CommandError(f"{LOCAL!r} is the fleet on this machine: choose another --name")
        stored.contexts[name] = context
        stored.current = name
    print(f"Logged in to {context.url} as {context.username or 'the holder of a token'}. The context is {name}.")


def logout(
    name: Annotated[str, Argument(metavar="CONTEXT", help="By default the context in use.", show_default=False)] = "",
) -> None:
    """End a login, on its fleet too, and forget its credentials.

    The context stays, for the next login. Commands then use the fleet on this machine.
    """
    stored = load_contexts()
    name = name or stored.current
    if not name:
        raise CommandError("no context is in use; `aidevos context list` shows them")
    context = stored.get(name)
    try:
        if context.refresh_token:
            call(lambda api: api.call("POST", "/auth/logout"), target=Target(context.url, Login(name)))
    finally:
        with changed_contexts() as stored:
            stored.contexts[name] = Context(url=context.url)
            stored.current = "" if stored.current == name else stored.current
    print(f"Logged out of {context.url}.")


def _log_in(url: str, username: str, password: str, otp: str) -> Any:
    """Return the tokens of a login, and ask for the code of a second factor if one is needed. Raises `CommandError`."""
    body = {"username": username, "password": password} | ({"otp": otp} if otp else {})

    async def work(api: Any) -> Any:
        try:
            return await api.call("POST", "/auth/login", body=body)
        except SecondFactorNeeded as error:
            if not sys.stdin.isatty():
                raise
            code = prompt("Code of the authenticator app, or a recovery code", err=True).strip()
            kind = "otp" if len(code) == OTP_LENGTH and code.isdigit() else "recovery_code"
            return await api.call("POST", "/auth/mfa/verify", body={"challenge": error.challenge, kind: code})

    return call(work, target=Target(url, None))


def _check_url(url: str) -> str:
    """Return the URL of a fleet without a slash at its end; HTTPS is the default. Raises `CommandError`."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment:
        raise CommandError(f"{url!r} isn't the URL of a fleet, such as https://api.example.org")
    if parts.username or parts.password:
        raise CommandError("the URL must not contain credentials")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        print(f"aidevos: {parts.hostname} gets the password unencrypted: use https if you can", file=sys.stderr)
    return parts.geturl().rstrip("/")


def _read_line(what: str) -> str:
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise CommandError(f"standard input must have {what}")
    return line
