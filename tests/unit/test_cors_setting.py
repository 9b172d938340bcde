"""Valid origins in the CORS setting."""

from __future__ import annotations

import pytest

from aidevos.settings import SettingsError, cors_origins, load


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", []),
        ("*", ["*"]),
        ("https://a.example", ["https://a.example"]),
        ("https://a.example, http://[::1]:3000", ["https://a.example", "http://[::1]:3000"]),
    ],
)
def test_origins_are_listed_exactly_or_any_is_let_in(text: str, origins: list[str]) -> None:
    assert cors_origins(text) == origins


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "https://a.example/",
        "https://*.example",
        "a.example",
        "*, https://a.example",
        "https://A.example",
        "file://x",
    ],
)
def test_what_is_no_origin_is_refused_by_the_variable_s_name(text: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_CORS_ORIGINS"):
        load({"AIDEVOS_CORS_ORIGINS": text})
