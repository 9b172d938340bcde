"""The removal of credentials from what is logged.

Promise: a credential of a known form is replaced by `[secret]`, wherever in a text it stands. A value whose name says
that it is secret is replaced whole. Both hold at any depth of a value.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

HIDDEN = "[secret]"
# Deeper values are shown as a text.
MAX_DEPTH = 20
_NAMES = (
    r"password|passwd|passphrase|secret|token|authorization|cookie|credential|private[_-]?key|api[_-]?key|csrf"
    r"|(?<![a-z])otp(?![a-z])"
)
_is_secret_name = re.compile(_NAMES, re.IGNORECASE).search
# A word with such a name in it. Each word is read once, however long it is.
_WORD = rf"(?<![\w-])(?=[\w-]*?(?:{_NAMES}))[\w-]++"
_HEADER = r"(?<![\w-])(?:(?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-csrf-token)"
_THEN = r"(?:\\*+[\"']\s*[:=,]|\s*[:=])\s*"
_QUOTED = r"b?\"(?:\\.|[^\"\\])*+\"|b?'(?:\\.|[^'\\])*+'|\\++[\"'][^\r\n]*?\\[\"']"
_secrets = re.compile(
    # Cookie: …, to the end of its line; 'cookie': '…' and ("cookie", "…")
    rf"(?i:{_HEADER}{_THEN})(?P<header>{_QUOTED}|[^\s][^\r\n]*)"
    # password="…", 'password': '…'; password=…, as in URLs
    rf"|(?i:{_WORD}{_THEN})(?P<quoted>{_QUOTED})"
    rf"|(?i:{_WORD}=)(?P<plain>[^\s\"'&;,)\]}}]+)"
    # The schemes of `Authorization`
    r"|(?i:\b(?:bearer|apikey|basic|delegation)\s+)(?P<scheme>[^\s\"'\\,;]+)"
    # Tokens, API keys, secrets of webhooks, tokens of links in mails, private keys
    r"|(?P<known>(?<![\w-])eyJ[\w-]++\.[\w-]++\.[\w-]*|\badk_[0-9A-Za-z]+|\bwhsec_[\w+/=-]+"
    r"|(?<![\w.-])[\w-]++\.[\w-]++\.[\w-]{43}(?![\w-])"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))"
    # Credentials in URLs
    r"|(?<=://)(?P<url>[^\s/\"'\\]+)(?=@)"
)


def redact(text: str) -> str:
    """Return the text without credentials."""
    return _secrets.sub(_hide, text)


def clean(name: str, value: Any) -> Any:
    """Return the value of a field of this name as JSON can hold it, without credentials."""
    try:
        built_in = msgspec.to_builtins(value, builtin_types=(bytes, bytearray), str_keys=True, enc_hook=_represent)
    except Exception:  # whatever a value raises that is only to be shown
        built_in = _represent(value)
    return _clean_named(name, built_in, 0)


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes | bytearray):
        return redact(bytes(value).decode(errors="backslashreplace"))
    if value is None or isinstance(value, int | float):
        return value
    if depth == MAX_DEPTH:
        return redact(_represent(value))
    if isinstance(value, dict):
        return {redact(_name(name)): _clean_named(name, each, depth + 1) for name, each in value.items()}
    if len(value) == 2 and isinstance(value[0], str | bytes):
        # A header, or an entry of another mapping.
        return [_clean(value[0], depth), _clean_named(value[0], value[1], depth + 1)]
    return [_clean(each, depth + 1) for each in value]


def _clean_named(name: Any, value: Any, depth: int) -> Any:
    """Return a value that has this name. Numbers, such as of tokens, are no secrets."""
    if value and not isinstance(value, int | float) and _is_secret_name(_name(name)):
        return HIDDEN
    return _clean(value, depth)


def _name(name: Any) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def _hide(match: re.Match[str]) -> str:
    group = match.lastgroup or ""
    before, hidden = match[0][: match.start(group) - match.start()], match[group]
    quote = hidden.lstrip("b")[:1] if group in ("header", "quoted") else ""
    quote = quote if quote in ("'", '"') else ""
    return f"{before}{quote}{HIDDEN}{quote}"


def _represent(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # a value whose text can't be made
        return f"<{type(value).__name__}>"
