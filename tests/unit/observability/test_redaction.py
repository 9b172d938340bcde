"""Credentials stay out of the log, wherever in it they stand."""

from __future__ import annotations

import json
import logging
import string
import sys
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.observability import logs
from aidevos.observability.redaction import clean, redact
from aidevos.settings import Settings

LETTERS = string.ascii_letters + string.digits
secrets = st.text(LETTERS, min_size=12, max_size=40).map(lambda text: f"S3{text}")
plain_texts = st.sampled_from(["", "asked by ", 'x="', "x='", "(", "[", "a, ", "see\n", "é ", "\t"])
names = st.sampled_from(
    ["password", "new_password", "api_key", "X-Api-Key", "refresh_token", "Authorization", "Cookie", "client-secret"]
)


class Login(msgspec.Struct):
    user: str
    password: str


def in_a_text(secret: str, form: int) -> str:
    """Return a text with the secret in one of the forms in which credentials occur."""
    tail = (secret * 4)[:43]
    return [
        f"Authorization: Bearer {secret}",
        f"authorization: {secret}",
        f"Cookie: theme=dark; session={secret}",
        f"{{'Cookie': 'theme=\"dark\"; session={secret}'}}",
        f"(b'cookie', b'session={secret}')",
        f'{{"password": "{secret}", "user": "ada"}}',
        f'{{"password": "a\\"{secret}", "user": "ada"}}',
        f'{{\\"password\\": \\"{secret}\\"}}',
        f"Login(user='ada', password='{secret}')",
        f"/reset?token={secret}&next=1",
        f"ApiKey {secret}",
        f"x-api-key={secret}",
        f"adk_{secret}",
        f"whsec_{secret}+/=",
        f"basic {secret}",
        f"Delegation {secret}",
        f"token eyJ{secret}.{secret}.{secret}",
        f"https://app.example.org/confirm#0123abcd.{secret}.{tail}",
        f"mongodb://user:{secret}@host:1/db",
        f"nats://{secret}:p@{secret}@one:4222,nats://{secret}@two",
        f"-----BEGIN PRIVATE KEY-----\n{secret}\n{secret}\n-----END PRIVATE KEY-----",
        f"OTP={secret}",
    ][form]


texts = st.tuples(plain_texts, secrets, st.integers(0, 21)).map(
    lambda parts: (parts[1], parts[0] + in_a_text(parts[1], parts[2]))
)


def nest(value: Any, shape: str) -> Any:
    """Return the value inside others, as `shape` says from the inside to the outside."""
    for kind in shape:
        if kind == "d":
            value = {"x": value}
        elif kind == "l":
            value = [1, value]
        elif kind == "t":
            value = (value, None)
        elif isinstance(value, str):
            value = value.encode() if kind == "b" else {value: 1}
    return value


def logged(message: str, extra: dict[str, Any], error: Exception | None, log_format: str) -> str:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": message, **extra})
    record.exc_info = (type(error), error, error.__traceback__) if error else None
    return logs._formatter(logs.import_structlog(), log_format).format(record)


@given(texts, st.text("dltbs", max_size=4), st.sampled_from(["json", "console"]))
def test_no_credential_of_a_known_form_is_logged(found: tuple[str, str], shape: str, log_format: str) -> None:
    secret, text = found
    try:
        raise ValueError(text)
    except ValueError as raised:
        error = raised

    written = logged(f"see {text}", {"detail": nest(text, shape)}, error, log_format)

    assert secret not in written
    assert "[secret]" in written


@given(secrets, names, st.text("dlt", max_size=3), st.sampled_from([str, str.encode, list]))
def test_a_value_is_hidden_whose_name_says_that_it_is_secret(secret: str, name: str, shape: str, kind: Any) -> None:
    headers = [(name.encode(), secret.encode()), ("accept", "text/html")]

    for value in (nest({name: kind(secret)}, shape), nest(headers, shape), Login(secret[:2], secret)):
        assert secret not in str(clean("detail", value))
    assert secret not in str(clean(name, kind(secret)))


@pytest.mark.parametrize(
    "text",
    [
        "GET /users/0123?limit=3: not-found",
        "events from before 2026-11-30T08:00:00Z may be lost: tokens are looked up",
        "the token is unknown, try again",
        "a secret: handle with care",
        "aidevos.durable.turns.execution-and-much-more-than-fits-in-43-characters",
        "https://user@example.org",
    ],
)
def test_a_text_without_credentials_stays_as_it_is(text: str) -> None:
    assert redact(text).replace("[secret]", "user") == text


def test_a_number_is_no_secret_whatever_its_name_is() -> None:
    assert clean("usage", {"tokens": 12, "secret": None}) == {"tokens": 12, "secret": None}


@pytest.mark.parametrize("text", ["secret" * 20_000, "a-" * 60_000, "eyJ" * 40_000, "a.b." * 30_000, "x='" * 40_000])
def test_a_long_text_costs_little(text: str) -> None:
    began = time.process_time()

    redact(text)

    assert time.process_time() - began < 1.0


def test_a_line_of_a_fleet_is_json_although_a_terminal_would_get_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    assert json.loads(logged("m", {}, None, Settings().log_format))["message"] == "m"
