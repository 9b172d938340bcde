"""Settings in the environment: units, files, and names that are mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from aidevos.settings import SettingsError, load, webhook_pauses

SECRETS = ("NATS_URL", "MONGO_URL", "EVENT_BUS_URL", "ADMIN_PASSWORD", "SECRET_KEY", "SMTP_URL")


def refusal(**variables: str) -> str:
    """Return the one line with which these variables are refused."""
    with pytest.raises(SettingsError) as refused:
        load({f"AIDEVOS_{name}": value for name, value in variables.items()})
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_times_and_sizes_have_units() -> None:
    settings = load(
        {
            "AIDEVOS_IDLE_AFTER": "15m",
            "AIDEVOS_LEASE": "5s",
            "AIDEVOS_MAX_BODY": "8MB",
            "AIDEVOS_MAX_MEMORY": "1GiB",
            "AIDEVOS_BODY_RATE": "2kB",
            "AIDEVOS_PASSWORD_MEMORY": "64MiB",
        }
    )

    assert (settings.idle_after, settings.lease, settings.body_rate) == (900.0, 5, 2000)
    assert (settings.max_body, settings.max_memory, settings.password_memory) == (8_000_000, 2**30, 64 * 1024)
    assert webhook_pauses("5s, 5m,7200") == (5.0, 300.0, 7200.0)


def test_numbers_without_a_unit_mean_what_they_meant() -> None:
    settings = load({"AIDEVOS_IDLE_AFTER": "0.5", "AIDEVOS_MAX_BODY": "4096", "AIDEVOS_PASSWORD_MEMORY": "32768"})

    assert (settings.idle_after, settings.max_body, settings.password_memory) == (0.5, 4096, 32_768)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("IDLE_AFTER", "15x", "it isn't a time like 90, 15m or 1h30m"),
        ("MAX_BODY", "8MM", "it isn't a size like 4096, 8MB or 8MiB"),
        ("LEASE", "1500ms", "Expected `int`"),
        ("MAX_BODY", "1B", "Expected `int` >= 1024"),
    ],
)
def test_a_value_that_can_not_be_used_is_named_with_the_reason(name: str, value: str, reason: str) -> None:
    assert refusal(**{name: value}).startswith(f"AIDEVOS_{name}={value!r} can't be used: {reason}")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("PROT", "PORT"), ("MONGO_URI", "MONGO_URL"), ("IDEL_AFTER", "IDLE_AFTER"), ("SERVICE", "SERVICES")],
)
def test_a_misspelt_name_is_refused_and_the_nearest_one_suggested(wrong: str, meant: str) -> None:
    assert refusal(**{wrong: "1"}) == f"AIDEVOS_{wrong} isn't a setting: did you mean AIDEVOS_{meant}?"


def test_a_name_that_resembles_no_setting_is_left_to_whoever_uses_it() -> None:
    assert load({"AIDEVOS_FLEET_MARK": "x", "AIDEVOS_TOKEN": "x", "OTHER_PROT": "x"}) == load({})


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    value = {"SECRET_KEY": "A" * 43 + "=", "ADMIN_PASSWORD": "correct horse"}.get(name, "amqp://u:p@example.org/")
    value = value.replace("amqp", "smtp") if name == "SMTP_URL" else value
    file = tmp_path / "secret"
    file.write_text(value + "\n")

    settings = load({f"AIDEVOS_{name}_FILE": str(file)}, mail_from="a@example.org")

    assert getattr(settings, name.lower()) == value


def test_only_secrets_may_stand_in_files(tmp_path: Path) -> None:
    assert "AIDEVOS_IDLE_AFTER_FILE isn't a setting" in refusal(IDLE_AFTER_FILE=str(tmp_path))


def test_a_secret_and_its_file_are_not_both_taken(tmp_path: Path) -> None:
    line = refusal(ADMIN_PASSWORD="correct horse", ADMIN_PASSWORD_FILE=str(tmp_path))

    assert line == "AIDEVOS_ADMIN_PASSWORD and AIDEVOS_ADMIN_PASSWORD_FILE are both set: keep one of them"


def test_a_file_that_can_not_be_read_or_is_empty_is_named(tmp_path: Path) -> None:
    empty, long = tmp_path / "empty", tmp_path / "long"
    empty.write_text("\n")
    long.write_text("a" * 70_000)

    assert "can't be read" in refusal(ADMIN_PASSWORD_FILE=str(tmp_path / "missing"))
    assert "can't be read" in refusal(ADMIN_PASSWORD_FILE=str(tmp_path))
    assert "is empty" in refusal(ADMIN_PASSWORD_FILE=str(empty))
    assert "is longer than" in refusal(ADMIN_PASSWORD_FILE=str(long))
