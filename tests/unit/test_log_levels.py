"""The levels of loggers in AIDEVOS_LOG_LEVEL."""

from __future__ import annotations

import pytest

from aidevos.log_levels import parse_levels
from aidevos.settings import SettingsError, load


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", {"": "INFO"}),
        ("debug", {"": "DEBUG"}),
        ("aidevos.durable.turns=DEBUG", {"": "INFO", "aidevos.durable.turns": "DEBUG"}),
        (" warning , nats = ERROR,my.own=critical,", {"": "WARNING", "nats": "ERROR", "my.own": "CRITICAL"}),
        ("aidevos=ERROR,aidevos.cli.main=INFO", {"": "INFO", "aidevos": "ERROR", "aidevos.cli.main": "INFO"}),
    ],
)
def test_each_logger_has_the_level_that_is_named_for_it(text: str, levels: dict[str, str]) -> None:
    assert parse_levels(text) == levels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DEBGU", "'DEBGU' isn't a level: did you mean DEBUG?"),
        ("x=1", "'1' isn't a level: there are CRITICAL, DEBUG, ERROR, INFO, WARNING"),
        ("=INFO", "'=INFO' names no logger"),
        ("aidevos.durable.turn=INFO", "there is no logger 'aidevos.durable.turn': did you mean turns?"),
        ("aidevos.durabel.turns=INFO", "there is no logger 'aidevos.durabel.turns': did you mean durable?"),
    ],
)
def test_a_misspelt_one_is_refused_in_one_line_that_says_what_was_meant(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"AIDEVOS_LOG_LEVEL": text})

    assert str(refused.value) == f"AIDEVOS_LOG_LEVEL={text!r}: {message}"
